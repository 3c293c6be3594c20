// SPDX-License-Identifier: GPL-2.0

//! The plan: which programs a guest runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// A program to run.
pub struct Entry {
    pub name: String,
    pub program: String,
    pub line: String,
}

/// The programs that a guest runs, one after the other.
pub struct Plan(pub Vec<Entry>);

impl Plan {
    pub fn read(file: &Path, only: &[String]) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the plan {}", file.display()))?;
        let plan = Self::parse(&text, only).with_context(|| file.display().to_string())?;
        ensure!(!plan.0.is_empty(), "{}: nothing to run", file.display());
        Ok(plan)
    }

    pub fn parse(text: &str, only: &[String]) -> Result<Self> {
        let mut plan: Vec<Entry> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[name, "root" | "nobody", program, ..] = words.as_slice() else {
                bail!("{line:?}: want: name root|nobody program args...");
            };
            ensure!(
                name.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
                "{name:?}: a name has letters, digits and '.', '_', '-' only"
            );
            ensure!(
                plan.iter().all(|entry| entry.name != name),
                "{name:?} is there twice; names must differ"
            );
            plan.push(Entry {
                name: name.to_string(),
                program: program.to_string(),
                line: line.to_string(),
            });
        }
        for name in only {
            ensure!(
                plan.iter().any(|entry| entry.name == *name),
                "it has no {name:?}; it has: {}",
                plan.iter()
                    .map(|entry| entry.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
        if !only.is_empty() {
            plan.retain(|entry| only.contains(&entry.name));
        }
        Ok(Self(plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let text = "# a comment\n\na root a\n  b\tnobody\tp -x y\n";
        let plan = Plan::parse(text, &[]).unwrap();
        let entries: Vec<_> = plan
            .0
            .iter()
            .map(|e| (e.name.as_str(), e.program.as_str()))
            .collect();
        assert_eq!(entries, [("a", "a"), ("b", "p")]);
        assert_eq!(plan.0[1].line, "b\tnobody\tp -x y");

        let plan = Plan::parse(text, &["b".to_string()]).unwrap();
        assert_eq!(plan.0.len(), 1);
        assert!(Plan::parse(text, &["c".to_string()]).is_err());
        for wrong in ["a root", "a admin a", "a/b root a", "a root a\na root b"] {
            assert!(Plan::parse(wrong, &[]).is_err(), "{wrong}");
        }
    }
}
