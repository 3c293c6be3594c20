// SPDX-License-Identifier: GPL-2.0

//! What is tried: a state to begin with, and two or three tasks.

use kernel::model::{
    folio as model, mm,
    sched::{self, Job, Wants},
    world::{self, world, *},
};
use std::fmt;

/// A vma, and whether it maps the folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmaState {
    Absent,
    AbsentLocked,
    Mapped,
    MappedLocked,
}

impl VmaState {
    fn is_mapped(self) -> bool {
        matches!(self, Self::Mapped | Self::MappedLocked)
    }

    fn is_locked(self) -> bool {
        matches!(self, Self::AbsentLocked | Self::MappedLocked)
    }
}

/// What a task does. A number is that of a vma, each of a process of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    Mlock(usize),
    Munlock(usize),
    Fault(usize),
    /// Of all folios, as they are mapped one behind the other.
    FaultAll(usize),
    /// A fault in anonymous memory that was never used.
    New(usize),
    Munmap(usize),
    Dontneed(usize),
    Drain,
    /// The task goes to another CPU.
    Cpu(usize),
    Reclaim,
    Migrate,
    MigratePinned,
    /// Compaction takes all folios off their lists, and puts them back.
    Isolate,
    Putback,
    Truncate,
    DrainAll,
    CheckMove,
    ShmUnlock,
    Reparent,
    CpuDead,
    Split,
    Collapse,
    /// Of the multi-gen LRU.
    LookAround(usize),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlock(vma) => write!(f, "mlock{vma}"),
            Self::Munlock(vma) => write!(f, "munlock{vma}"),
            Self::Fault(vma) => write!(f, "fault{vma}"),
            Self::FaultAll(vma) => write!(f, "fault_all{vma}"),
            Self::New(vma) => write!(f, "new{vma}"),
            Self::Munmap(vma) => write!(f, "munmap{vma}"),
            Self::Dontneed(vma) => write!(f, "dontneed{vma}"),
            Self::Cpu(cpu) => write!(f, "cpu{cpu}"),
            Self::Drain => f.write_str("drain"),
            Self::Reclaim => f.write_str("reclaim"),
            Self::Migrate => f.write_str("migrate"),
            Self::MigratePinned => f.write_str("migrate_pinned"),
            Self::Isolate => f.write_str("isolate"),
            Self::Putback => f.write_str("putback"),
            Self::Truncate => f.write_str("truncate"),
            Self::DrainAll => f.write_str("drain_all"),
            Self::CheckMove => f.write_str("check_move"),
            Self::ShmUnlock => f.write_str("shm_unlock"),
            Self::Reparent => f.write_str("reparent"),
            Self::CpuDead => f.write_str("cpu_dead"),
            Self::Split => f.write_str("split"),
            Self::Collapse => f.write_str("collapse"),
            Self::LookAround(vma) => write!(f, "look_around{vma}"),
        }
    }
}

impl Actor {
    fn run(self) {
        let w = world();
        let folio = &w.folios[w.focus.get()];
        let other = &w.folios[FOLIOS - 1];
        match self {
            Self::Mlock(vma) => mm::mlock(&w.vmas[vma], true),
            Self::Munlock(vma) => mm::mlock(&w.vmas[vma], false),
            Self::Fault(vma) => mm::filemap_map_pages(&w.vmas[vma], folio),
            Self::FaultAll(vma) => {
                let mut folios: Vec<_> = w.folios.iter().filter(|f| f.exists.get()).collect();
                folios.sort_by_key(|folio| folio.offset.get());
                for folio in folios {
                    mm::filemap_map_pages(&w.vmas[vma], folio);
                }
            }
            Self::New(vma) => mm::do_anonymous_page(&w.vmas[vma], folio),
            Self::Munmap(vma) => mm::munmap(&w.vmas[vma]),
            Self::Dontneed(vma) => mm::madvise_dontneed(&w.vmas[vma]),
            Self::Cpu(cpu) => sched::move_to_cpu(cpu),
            Self::Drain => mm::lru_add_drain(),
            Self::Reclaim => mm::reclaim(folio),
            Self::Migrate => mm::migrate(folio, other, false),
            Self::MigratePinned => mm::migrate(folio, other, true),
            Self::Isolate => mm::isolate_migratepages(),
            Self::Putback => mm::putback_movable_pages(),
            Self::Truncate => mm::truncate(folio),
            Self::DrainAll => mm::lru_add_drain_all(),
            Self::CheckMove => mm::check_move_unevictable_folios(folio),
            Self::ShmUnlock => mm::shmem_unlock(folio),
            Self::Reparent => mm::memcg_reparent_objcgs(),
            Self::CpuDead => mm::page_alloc_cpu_dead(1),
            Self::Split => mm::split(),
            Self::Collapse => mm::collapse_file(),
            Self::LookAround(vma) => mm::lru_gen_look_around(&w.vmas[vma]),
        }
    }

    /// The states of its vma in which it has something to do.
    fn states(self) -> &'static [VmaState] {
        use VmaState::*;
        match self {
            Self::Mlock(_) => &[Mapped],
            Self::Munlock(_) => &[MappedLocked],
            Self::Fault(_) | Self::FaultAll(_) => &[Absent, AbsentLocked],
            Self::Munmap(_) => &[Mapped, MappedLocked],
            _ => &[],
        }
    }
}

/// What a task does, one after the other.
pub type Program = Vec<Actor>;

fn name_of(program: &[Actor]) -> String {
    let names: Vec<_> = program.iter().map(Actor::to_string).collect();
    names.join("+")
}

/// The folios that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folios {
    One,
    /// Side by side; what happens to one happens to the second.
    Two,
    /// The same, but they are charged to different memory cgroups.
    TwoLruvecs,
    /// So many that the last one goes the same way as two before it.
    Three,
    /// One, of two pages.
    Large,
    /// A small one, mapped in front of a large one.
    SmallAndLarge,
    /// None yet.
    NoneYet,
}

/// How the kernel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// As it comes: tasks give way outside of spinlocks and local locks.
    Smp,
    /// The same, and two of the tasks are on one CPU.
    OneCpu,
    /// The same with PREEMPT_RT, where all of these locks sleep.
    Rt,
    /// `lru_cache_disable()`
    Uncached,
    /// A page table that changes while it is looked for.
    Table,
    /// With the multi-gen LRU.
    Generations,
}

#[derive(Clone)]
pub struct Scenario {
    pub folios: Folios,
    pub vmas: [VmaState; VMAS],
    /// What comes before the tasks.
    pub begin: Program,
    pub tasks: Vec<Program>,
    pub mode: Mode,
    /// Whether the batch is drained before a large folio is mlocked or munlocked.
    pub large_apart: bool,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", tasks_name(&self.tasks))?;
        if self.folios != Folios::One {
            write!(f, "{:?} ", self.folios)?;
        }
        write!(f, "{:?} {:?}", self.vmas[0], self.vmas[1])?;
        if !self.begin.is_empty() {
            write!(f, " {}", name_of(&self.begin))?;
        }
        if self.mode != Mode::Smp {
            write!(f, " {:?}", self.mode)?;
        }
        f.write_str("]")
    }
}

fn tasks_name(tasks: &[Program]) -> String {
    let names: Vec<_> = tasks.iter().map(|p| name_of(p)).collect();
    names.join(" x ")
}

impl Scenario {
    fn has(&self, actor: Actor) -> bool {
        self.tasks.iter().flatten().any(|a| *a == actor)
    }

    /// Whether all folios are isolated at once.
    pub fn isolates(&self) -> bool {
        self.has(Actor::Putback)
    }

    /// Makes the world as it is to be at the start.
    fn set_up(&self) {
        world::reset();
        let w = world();

        w.rt.set(self.mode == Mode::Rt);
        w.lru_disabled.set(self.mode == Mode::Uncached);
        w.lru_gen.set(self.mode == Mode::Generations);
        w.large_apart.set(self.large_apart);
        w.reparents.set(self.has(Actor::Reparent));
        // How many pages each has, and where it is mapped. Who isolates several folios begins with
        // the first one here.
        let folios: &[(u32, u8)] = match self.folios {
            Folios::One => &[(1, 0)],
            Folios::Two | Folios::TwoLruvecs => &[(1, 0), (1, 1)],
            Folios::Three => &[(1, 0), (1, 1), (1, 2)],
            Folios::Large => &[(2, 0)],
            Folios::SmallAndLarge => &[(2, 1), (1, 0)],
            Folios::NoneYet => &[],
        };
        w.focus.set(folios.len().max(1) - 1);
        for (vma, state) in w.vmas.iter().zip(self.vmas) {
            vma.exists.set(true);
            vma.attached.set(true);
            vma.set_flags(if state.is_locked() { VM_LOCKED } else { 0 });
            if self.mode == Mode::Table {
                vma.pmd.set(mm::PMD_CHANGES);
            }
        }
        for (index, (pages, offset)) in folios.iter().enumerate() {
            self.make_folio(index, *pages, *offset);
        }
    }

    fn make_folio(&self, index: usize, pages: u32, offset: u8) {
        let w = world();
        let folio = &w.folios[index];
        let home = index * usize::from(self.folios == Folios::TwoLruvecs);

        folio.exists.set(true);
        folio.nr_pages.set(pages);
        folio.offset.set(offset);
        folio.home.set(home as u8);
        folio.mapping.set(if self.has(Actor::ShmUnlock) {
            Mapping::ShmLocked
        } else {
            Mapping::File
        });
        let mut mapcount = 0;
        let mut locked = 0;
        for (vma, state) in w.vmas.iter().zip(self.vmas) {
            if state.is_mapped() {
                for page in 0..pages as usize {
                    vma.ptes[usize::from(offset) + page].set(Pte::present(index, page));
                }
                mapcount += pages as i32;
                locked += u32::from(state.is_locked());
            }
        }
        folio.mapcount.set(mapcount);
        folio.refcount.set(mapcount + pages as i32);
        let mut flags = LRU;
        if pages > 1 {
            flags |= HEAD;
        }
        if locked != 0 {
            flags |= MLOCKED;
            w.nr_mlock.set(w.nr_mlock.get() + pages as i32);
        }
        if locked != 0 || folio.mapping.get() == Mapping::ShmLocked {
            flags |= UNEVICTABLE;
            folio.mlock_count.set(locked);
        } else if self.mode == Mode::Generations {
            flags |= OLDEST;
        }
        folio.flags.set(flags);
        let list = list_of(flags);
        let size = &w.lruvecs[home].sizes[usize::from(list)];
        size.set(size.get() + pages as i32);
        if list != LRU_UNEVICTABLE {
            folio.list.set(list);
        }
    }

    /// Makes the world and the tasks: one that comes first, those of the scenario, and one that
    /// drains all batches.
    pub fn jobs(&self) -> Vec<Job> {
        self.set_up();
        let cpus = match self.mode {
            Mode::OneCpu | Mode::Rt => [0, 0, 1],
            _ => [0, 1, 1],
        };
        let tasks = self
            .tasks
            .iter()
            .zip(cpus)
            .map(|(program, cpu)| job(program, cpu));
        let end = Job {
            name: "end",
            cpu: 0,
            work: &|| {
                sched::point(Wants::Others);
                drain_all_cpus();
            },
        };
        [job(&self.begin, 0)]
            .into_iter()
            .chain(tasks)
            .chain([end])
            .collect()
    }

    /// What is done after the end, to see whether reclaim respects what is locked.
    pub fn reclaim_jobs() -> Vec<Job> {
        vec![Job {
            name: "reclaim",
            cpu: 0,
            work: &|| {
                for _ in 0..3 {
                    for folio in &world().folios {
                        if folio.exists.get() && !folio.freed.get() {
                            mm::reclaim(folio);
                        }
                    }
                    drain_all_cpus();
                }
            },
        }]
    }
}

fn drain_all_cpus() {
    for cpu in 0..CPUS {
        if mm::is_online(cpu) {
            sched::move_to_cpu(cpu);
            mm::lru_add_drain();
        }
    }
}

/// A program with a name, made once.
fn job(program: &[Actor], cpu: usize) -> Job {
    use std::cell::RefCell;
    type Made = (Program, &'static str, &'static dyn Fn());
    thread_local! {
        static JOBS: RefCell<Vec<Made>> = const { RefCell::new(Vec::new()) };
    }
    JOBS.with_borrow_mut(|jobs| {
        let found = jobs.iter().position(|(made, _, _)| made == program);
        let found = found.unwrap_or_else(|| {
            let actors = program.to_vec();
            let work = move || {
                for (i, actor) in actors.iter().enumerate() {
                    actor.run();
                    // Nothing is left of it but what others can see.
                    sched::forget(i as u64);
                }
            };
            let name = name_of(program).into_boxed_str();
            jobs.push((program.to_vec(), Box::leak(name), Box::leak(Box::new(work))));
            jobs.len() - 1
        });
        let (_, name, work) = jobs[found];
        Job { name, cpu, work }
    })
}

/// How a scenario came out: what others may see, once all batches are drained.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EndState {
    pub folios: String,
    pub counters: String,
    /// What is not good about it.
    pub complaints: Vec<&'static str>,
}

impl fmt::Display for EndState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.folios, self.counters)
    }
}

/// Looks at the world when all is done: returns how it came out, or what is wrong with it.
pub fn look_at_end() -> Result<EndState, String> {
    let w = world();
    let mut folios = Vec::new();
    let mut nr_mlock = 0;
    let mut sizes = [[0; LISTS]; LRUVECS];

    for (i, f) in w.folios.iter().enumerate().filter(|(_, f)| f.exists.get()) {
        if f.freed.get() {
            folios.push(format!("f{i} freed"));
            continue;
        }
        let flags = f.flags.get();
        let pages = f.nr_pages.get() as i32;
        if flags & LRU == 0 {
            return Err(format!("f{i} is on no list in the end"));
        }
        if flags & MLOCKED != 0 {
            nr_mlock += pages;
        }
        sizes[usize::from(f.home.get())][usize::from(list_of(flags))] += pages;
        let mut refs = match f.mapping.get() {
            Mapping::File | Mapping::ShmLocked => pages,
            Mapping::Anon | Mapping::None => 0,
        };
        let mut mapped = String::new();
        let mut mapcount = 0;
        for vma in &w.vmas {
            for pte in &vma.ptes {
                if pte.get().is_present() && pte.get().folio() == i {
                    mapcount += 1;
                    mapped += &vma.index.to_string();
                }
            }
        }
        refs += mapcount;
        if f.refcount.get() != refs {
            return Err(format!(
                "f{i} has {} references, not {refs}",
                f.refcount.get()
            ));
        }
        if f.mapcount.get() != mapcount {
            return Err(format!(
                "f{i} has a mapcount of {}, not {mapcount}",
                f.mapcount.get()
            ));
        }
        let mut words = format!("f{i} {}", model::flag_names(flags & !LRU));
        if flags & UNEVICTABLE != 0 {
            words += &format!(" count {}", model::count_name(f));
        }
        if mapped.is_empty() {
            words += " unmapped";
        } else {
            words += &format!(" mapped {mapped}");
        }
        folios.push(words);
    }
    if w.nr_mlock.get() != nr_mlock {
        return Err(format!("nr_mlock is {}, not {nr_mlock}", w.nr_mlock.get()));
    }
    for (lruvec, sizes) in w.lruvecs.iter().zip(sizes) {
        for (lru, (is, due)) in lruvec.sizes.iter().zip(sizes).enumerate() {
            if is.get() != due {
                return Err(format!("the size of list {lru} is {}, not {due}", is.get()));
            }
        }
    }
    for vma in &w.vmas {
        if vma.exists.get() {
            let locked = if vma.flags() & VM_LOCKED != 0 {
                "locked"
            } else {
                "-"
            };
            folios.push(format!("vma{} {locked}", vma.index));
            if vma.flags() & VM_IO != 0 {
                return Err(format!("vma {} has VM_IO in the end", vma.index));
            }
        }
        if vma.ptes.iter().any(|pte| pte.get().is_migration()) {
            return Err("a page is migrated for ever".into());
        }
    }
    for cpu in &w.cpus {
        // SAFETY: No task is running.
        if unsafe { (*cpu.mlock.get()).fbatch.nr + (*cpu.lru_add.get()).nr } != 0 {
            return Err("a folio waits in a batch for ever".into());
        }
    }
    let counters = EVENT_NAMES
        .iter()
        .zip(&w.events)
        .filter(|(_, n)| n.get() != 0)
        .map(|(name, n)| format!("{name} {}", n.get()));
    Ok(EndState {
        folios: folios.join(", "),
        counters: counters.collect::<Vec<_>>().join(" "),
        complaints: Vec::new(),
    })
}

/// What is not as mlock(2) would have it, in the end.
pub fn complaints() -> Vec<&'static str> {
    let w = world();
    let mut found = Vec::new();
    for (i, f) in w.folios.iter().enumerate() {
        if !f.exists.get() || f.freed.get() {
            continue;
        }
        let offset = usize::from(f.offset.get());
        let locked = w.vmas.iter().any(|vma| {
            vma.exists.get()
                && vma.flags() & VM_LOCKED != 0
                && vma.ptes[offset].get() == Pte::present(i, 0)
        });
        let flags = f.flags.get();
        let shm_locked = f.mapping.get() == Mapping::ShmLocked;
        if !locked && flags & MLOCKED != 0 {
            found.push("a folio stays mlocked that no vma locks");
        } else if !locked && !shm_locked && flags & UNEVICTABLE != 0 {
            found.push("a folio stays unevictable that nothing makes so");
        }
        if locked && flags & MLOCKED == 0 {
            found.push("a folio is evictable that a vma locks");
        }
        if locked && flags & UNEVICTABLE == 0 && flags & MLOCKED != 0 {
            found.push("a folio is mlocked, but on a list that is scanned");
        }
    }
    found
}

/// What locked vmas map.
pub fn locked_pages() -> Vec<(usize, usize, Pte)> {
    let mut pages = Vec::new();
    for vma in world()
        .vmas
        .iter()
        .filter(|vma| vma.flags() & VM_LOCKED != 0)
    {
        for (i, pte) in vma
            .ptes
            .iter()
            .enumerate()
            .filter(|(_, pte)| pte.get().is_present())
        {
            pages.push((vma.index, i, pte.get()));
        }
    }
    pages
}

/// Whether all folios that locked vmas map are unevictable.
pub fn are_locked_unevictable() -> bool {
    locked_pages()
        .iter()
        .all(|(_, _, pte)| world().folios[pte.folio()].flags.get() & UNEVICTABLE != 0)
}

/// Scenarios that have something in common, and its name.
pub struct Group {
    pub name: String,
    pub scenarios: Vec<Scenario>,
}

const GLOBAL: [Actor; 8] = [
    Actor::Reclaim,
    Actor::Migrate,
    Actor::MigratePinned,
    Actor::Truncate,
    Actor::DrainAll,
    Actor::CheckMove,
    Actor::ShmUnlock,
    Actor::Reparent,
];

fn own(vma: usize) -> [Actor; 4] {
    use Actor::*;
    [Mlock(vma), Munlock(vma), Fault(vma), Munmap(vma)]
}

/// Of two processes, or of one and the rest of mm, or of the rest of mm twice.
fn pairs() -> Vec<(Vec<Program>, &'static [VmaState], &'static [VmaState])> {
    use Actor::*;
    use VmaState::*;
    let mut pairs: Vec<(Vec<Program>, &[VmaState], &[VmaState])> = Vec::new();

    for (i, a) in own(0).into_iter().enumerate() {
        for b in &own(1)[i..] {
            pairs.push((vec![vec![a], vec![*b]], a.states(), b.states()));
        }
    }
    for a in own(0) {
        for b in GLOBAL {
            pairs.push((
                vec![vec![a], vec![b]],
                a.states(),
                &[Absent, Mapped, MappedLocked],
            ));
        }
    }
    for (i, a) in GLOBAL.into_iter().enumerate() {
        for b in &GLOBAL[i..] {
            if !matches!(
                (a, b),
                (Migrate | MigratePinned, Migrate) | (Reparent, Reparent)
            ) {
                pairs.push((
                    vec![vec![a], vec![*b]],
                    &[Mapped, MappedLocked],
                    &[Absent, MappedLocked],
                ));
            }
        }
    }
    pairs
}

/// All scenarios.
pub fn all() -> Vec<Group> {
    use Actor::*;
    use Folios::*;
    use Mode::*;
    use VmaState::*;
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |name: &str,
                   folios: Folios,
                   begin: &[Actor],
                   tasks: &[Program],
                   a: &[VmaState],
                   b: &[VmaState],
                   modes: &[Mode]| {
        let mut scenarios = Vec::new();
        for &a in a {
            for &b in b {
                for &mode in modes {
                    scenarios.push(Scenario {
                        folios,
                        vmas: [a, b],
                        begin: begin.to_vec(),
                        tasks: tasks.to_vec(),
                        mode,
                        large_apart: false,
                    });
                }
            }
        }
        let name = format!("{name}: {}", tasks_name(tasks));
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.scenarios.extend(scenarios),
            None => groups.push(Group { name, scenarios }),
        }
    };

    for (tasks, a, b) in pairs() {
        add(
            "pairs",
            One,
            &[],
            &tasks,
            a,
            b,
            &[Smp, OneCpu, Rt, Uncached, Table, Generations],
        );
    }
    // The folio gets into another generation meanwhile.
    for a in own(0).into_iter().chain(GLOBAL) {
        let states: &[VmaState] = match a.states() {
            [] => &[Mapped, MappedLocked],
            states => states,
        };
        for folios in [One, Two, TwoLruvecs] {
            add(
                "generations",
                folios,
                &[],
                &[vec![a], vec![LookAround(1)]],
                states,
                &[Mapped, MappedLocked],
                &[Generations],
            );
        }
    }
    for (folios, a) in [(Large, Split), (One, Collapse)] {
        add(
            "generations",
            folios,
            &[],
            &[vec![a], vec![LookAround(1)]],
            &[Mapped, MappedLocked],
            &[Mapped, MappedLocked],
            &[Generations],
        );
    }
    // An mlock or a munlock of vma 1 waits in the batch of one CPU or the other.
    for a in own(0) {
        for b in GLOBAL {
            for (waits, state) in [(Fault(1), AbsentLocked), (Munmap(1), MappedLocked)] {
                for cpu in 0..CPUS {
                    add(
                        "waiting",
                        One,
                        &[Cpu(cpu), waits],
                        &[vec![a], vec![b]],
                        a.states(),
                        &[state],
                        &[Smp, Rt],
                    );
                }
            }
        }
    }
    // The folio waits in the lru_add batch of CPU 0.
    for a in own(0) {
        add(
            "put back",
            One,
            &[Isolate, Putback],
            &[vec![a], vec![CheckMove]],
            a.states(),
            &[Absent, Mapped, MappedLocked],
            &[Smp, Rt],
        );
    }
    for (i, a) in own(0).into_iter().enumerate() {
        for b in &own(1)[i..] {
            for folios in [Two, TwoLruvecs, Large] {
                add(
                    "folios",
                    folios,
                    &[],
                    &[vec![a], vec![*b]],
                    a.states(),
                    b.states(),
                    &[Smp, Rt],
                );
            }
        }
    }
    for (a, b) in [
        (Mlock(0), Mlock(1)),
        (Mlock(0), Munlock(1)),
        (Munlock(0), Munlock(1)),
        (Mlock(0), Munmap(1)),
        (Munlock(0), Munmap(1)),
    ] {
        add(
            "folios",
            Three,
            &[],
            &[vec![a], vec![b]],
            a.states(),
            b.states(),
            &[Smp],
        );
    }
    for a in own(0) {
        for b in GLOBAL {
            for folios in [Two, TwoLruvecs, Three, Large] {
                add(
                    "folios",
                    folios,
                    &[],
                    &[vec![a], vec![b]],
                    a.states(),
                    &[Absent, MappedLocked],
                    &[Smp],
                );
            }
        }
    }
    // All folios are isolated when the walk comes by, so it leaves in the batch as many as that
    // takes. Then another task of this CPU finds the batch like that.
    add(
        "batch is full",
        Three,
        &[Isolate],
        &[vec![Mlock(0)], vec![Fault(1)], vec![Putback]],
        &[Mapped],
        &[AbsentLocked],
        &[Rt],
    );
    // What is done about a large folio, which does not wait in the batch, comes after what is pending
    // there.
    for a in [FaultAll(0), Munmap(0), Mlock(0), Munlock(0)] {
        add(
            "large and small",
            SmallAndLarge,
            &[],
            &[vec![a], vec![Isolate, Putback]],
            a.states(),
            &[Absent, MappedLocked],
            &[Smp, Rt],
        );
    }
    // A large folio is split meanwhile. khugepaged replaces the folio by a large one, and removes the
    // page tables.
    let split: &[VmaState] = &[Absent, Mapped, MappedLocked];
    for (name, folios, meanwhile, others) in [
        ("split", Large, Split, split),
        ("khugepaged", One, Collapse, &[Absent, MappedLocked]),
    ] {
        for a in own(0).into_iter().chain(GLOBAL) {
            let states: &[VmaState] = match a.states() {
                [] => &[Mapped, MappedLocked],
                states => states,
            };
            add(
                name,
                folios,
                &[],
                &[vec![a], vec![meanwhile]],
                states,
                others,
                &[Smp, Rt],
            );
        }
    }
    // It has found one folio isolated and the other not, or has to put back the first of them.
    for a in own(0) {
        add(
            "khugepaged",
            Two,
            &[],
            &[vec![a], vec![Collapse]],
            a.states(),
            &[Absent, MappedLocked],
            &[Smp, Rt],
        );
    }
    // Both, and two of them.
    for (folios, tasks) in [
        (Large, [vec![Split], vec![Split]]),
        (Large, [vec![Split], vec![Collapse]]),
        (Large, [vec![Split, Collapse], vec![Split]]),
        (Large, [vec![Split, Collapse], vec![Collapse]]),
        (One, [vec![Collapse], vec![Collapse]]),
        (Two, [vec![Collapse], vec![Collapse]]),
        (Two, [vec![Collapse], vec![Split]]),
    ] {
        add(
            "split and collapse",
            folios,
            &[],
            &tasks,
            &[Mapped, MappedLocked],
            &[Absent, MappedLocked],
            &[Smp, Rt],
        );
    }
    // What a process does one after the other, on one CPU or on two.
    for program in [
        vec![Mlock(0), Munlock(0)],
        vec![Munlock(0), Mlock(0)],
        vec![Munlock(0), Mlock(0), Munlock(0)],
        vec![Fault(0), Munlock(0)],
        vec![Fault(0), Munmap(0)],
        vec![Fault(0), Cpu(1), Munlock(0), Mlock(0)],
        vec![Fault(0), Cpu(1), Munmap(0)],
        vec![Munlock(0), Munmap(0)],
        vec![Mlock(0), Munmap(0)],
        vec![Mlock(0), Dontneed(0), Fault(0)],
    ] {
        let state = match program[0] {
            Fault(_) => AbsentLocked,
            Munlock(_) => MappedLocked,
            _ => Mapped,
        };
        for b in [
            Drain,
            Reclaim,
            Migrate,
            MigratePinned,
            Truncate,
            DrainAll,
            CheckMove,
            Mlock(1),
            Munlock(1),
        ] {
            let states: &[VmaState] = match b {
                Mlock(_) | Munlock(_) => b.states(),
                _ => &[Absent, MappedLocked],
            };
            add(
                "programs",
                One,
                &[],
                &[program.clone(), vec![b]],
                &[state],
                states,
                &[Smp, Rt, Generations],
            );
        }
    }
    for b in [
        Drain,
        Reclaim,
        Migrate,
        MigratePinned,
        DrainAll,
        CheckMove,
        Munmap(0),
        Mlock(0),
        Munlock(0),
    ] {
        add(
            "new",
            NoneYet,
            &[],
            &[vec![Actor::New(0)], vec![b]],
            &[Absent, AbsentLocked],
            &[Absent],
            &[Smp, OneCpu, Rt, Uncached, Generations],
        );
    }
    // It is unmapped when it was put on a list, or earlier.
    for begin in [vec![Actor::New(0)], vec![Actor::New(0), Drain]] {
        for a in [Munmap(0), Dontneed(0), Mlock(0), Munlock(0)] {
            for b in [Drain, Reclaim, Migrate, MigratePinned, DrainAll] {
                add(
                    "anonymous",
                    NoneYet,
                    &begin,
                    &[vec![a], vec![b]],
                    &[Absent, AbsentLocked],
                    &[Absent],
                    &[Smp, OneCpu, Rt],
                );
            }
        }
    }
    for a in [Fault(1), Munmap(1), Mlock(1), Munlock(1)] {
        for b in [Drain, Reclaim, CheckMove, Munlock(0), DrainAll] {
            let states: &[VmaState] = if b == Munlock(0) {
                b.states()
            } else {
                &[Absent, MappedLocked]
            };
            // The second task is that of CPU 1.
            add(
                "hotplug",
                One,
                &[],
                &[vec![b], vec![a], vec![Cpu(0), CpuDead]],
                states,
                a.states(),
                &[Smp],
            );
        }
    }
    groups
}

/// Three at once.
pub fn triples() -> Vec<Group> {
    let mut groups = Vec::new();

    // As "batch is full" of `all()`, but the folios are isolated at any time.
    let tasks = vec![
        vec![Actor::Mlock(0)],
        vec![Actor::Fault(1)],
        vec![Actor::Isolate, Actor::Putback],
    ];
    groups.push(Group {
        name: format!("triples: {}", tasks_name(&tasks)),
        scenarios: vec![Scenario {
            folios: Folios::Three,
            vmas: [VmaState::Mapped, VmaState::AbsentLocked],
            begin: Vec::new(),
            tasks,
            mode: Mode::Rt,
            large_apart: false,
        }],
    });
    for (i, a) in own(0).into_iter().enumerate() {
        for b in &own(1)[i..] {
            for c in GLOBAL {
                let tasks = vec![vec![a], vec![*b], vec![c]];
                let mut scenarios = Vec::new();
                for &x in a.states() {
                    for &y in b.states() {
                        for mode in [Mode::Smp, Mode::Rt] {
                            scenarios.push(Scenario {
                                folios: Folios::One,
                                vmas: [x, y],
                                begin: Vec::new(),
                                tasks: tasks.clone(),
                                mode,
                                large_apart: false,
                            });
                        }
                    }
                }
                groups.push(Group {
                    name: format!("triples: {}", tasks_name(&tasks)),
                    scenarios,
                });
            }
        }
    }
    groups
}
