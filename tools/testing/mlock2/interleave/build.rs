// SPDX-License-Identifier: GPL-2.0

//! Compiles the page part of `mm/mlock.c`, of the kernel source that `LINUX` names: as it is there,
//! and as it is without any fixes, if that is a git repository with a tag `pristine`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the part ends that is about pages.
const END: &str = "/*\n * mlock_fixup ";

fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if !output.status.success() {
        panic!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    output.stdout
}

fn compile(name: &str, source: &str, out: &Path) -> PathBuf {
    let end = source.find(END).expect("mm/mlock.c has no mlock_fixup()");
    let part = out.join(format!("{name}.c"));
    fs::write(&part, &source[..end]).expect("cannot write");

    // The headers that it includes, with nothing in them
    let headers = out.join("include");
    for line in source.lines() {
        let Some(header) = line.strip_prefix("#include ") else {
            continue;
        };
        let header = headers.join(header.trim_matches(['<', '>', '"']));
        fs::create_dir_all(header.parent().expect("a directory")).expect("cannot make it");
        fs::write(header, "").expect("cannot write");
    }
    let object = out.join(format!("{name}.o"));
    let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut words = cc.split_whitespace();
    run(Command::new(words.next().expect("CC is empty"))
        .args(words)
        .args([
            "-O2",
            "-fPIC",
            "-std=gnu11",
            "-fno-strict-aliasing",
            "-Wall",
            "-Werror",
        ])
        .args([
            "-Wno-unused-function",
            "-Wno-unused-variable",
            "-include",
            "c/model.h",
        ])
        .arg(format!("-I{}", headers.display()))
        .arg(format!("-DORACLE={name}"))
        .arg(format!("-DPAGE_PART=\"{}\"", part.display()))
        .args(["-c", "c/oracle.c", "-o"])
        .arg(&object));
    object
}

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let linux = env::var("LINUX").expect("LINUX= is to be the kernel source");
    let path = Path::new(&linux).join("mm/mlock.c");
    for file in ["build.rs", "c/model.h", "c/oracle.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed={}", path.display());
    println!("cargo:rerun-if-env-changed=LINUX");
    println!("cargo:rerun-if-env-changed=CC");

    let fixed = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let stock = run(Command::new("git").args(["-C", &linux, "show", "pristine:mm/mlock.c"]));
    let stock = String::from_utf8(stock).expect("mm/mlock.c is not UTF-8");
    for (name, source) in [("fixed", fixed), ("stock", stock)] {
        println!(
            "cargo:rustc-link-arg={}",
            compile(name, &source, &out).display()
        );
    }
}
