// SPDX-License-Identifier: GPL-2.0

//! The memory that all tasks share.
//!
//! What a lock protects is plain memory, and is checked to be touched with the lock only. What is
//! changed without one is changed by one operation at a time, each a step of the scheduler.

use crate::ffi::c_void;
use core::{
    cell::{Cell, UnsafeCell},
    ptr,
};

pub const CPUS: usize = 2;
/// Three, and one that a folio may be migrated to.
pub const FOLIOS: usize = 4;
pub const VMAS: usize = 2;
pub const LRUVECS: usize = 2;
pub const PTES: usize = 3;
/// So few that it can get full: the kernel's is 31.
pub const BATCH: usize = 3;
pub const LISTS: usize = 6;

pub const NOBODY: u8 = 0xff;
/// No list; or the one that does not exist, of unevictable folios.
pub const NO_LIST: u8 = 0xff;
/// A list on the stack of whoever isolated the folio.
pub const PRIVATE: u8 = 0x80;
/// Stands where an `mlock_count` is not.
pub const POISON: u32 = 0xdead;

// The bits of a folio's flags.
pub const PG_SWAPCACHE: u32 = 4;
pub const PG_LRU: u32 = 5;
pub const PG_HEAD: u32 = 6;
pub const PG_ACTIVE: u32 = 8;
pub const PG_SWAPBACKED: u32 = 17;
pub const PG_UNEVICTABLE: u32 = 18;
pub const PG_MLOCKED: u32 = 19;

pub const LRU: usize = 1 << PG_LRU;
pub const HEAD: usize = 1 << PG_HEAD;
pub const ACTIVE: usize = 1 << PG_ACTIVE;
pub const SWAPBACKED: usize = 1 << PG_SWAPBACKED;
pub const UNEVICTABLE: usize = 1 << PG_UNEVICTABLE;
pub const MLOCKED: usize = 1 << PG_MLOCKED;

pub const LRU_UNEVICTABLE: u8 = 4;
/// In the place of the lists of all generations of the multi-gen LRU: the flags say which one a
/// folio is in, and it may change without a lock.
pub const GENERATION: u8 = 5;

/// `LRU_GEN_MASK`: 0, or the generation and 1.
pub const GEN: usize = 3 << 56;
pub const OLDEST: usize = 1 << 56;
pub const YOUNGEST: usize = 2 << 56;

/// `folio_lru_list()`
pub fn list_of(flags: usize) -> u8 {
    if flags & UNEVICTABLE != 0 {
        return LRU_UNEVICTABLE;
    }
    if flags & GEN != 0 {
        return GENERATION;
    }
    let file = if flags & SWAPBACKED == 0 { 2 } else { 0 };
    file + u8::from(flags & ACTIVE != 0)
}

pub const VM_LOCKED: usize = 0x2000;
pub const VM_IO: usize = 0x4000;

pub const EVENTS: usize = 6;
pub const EVENT_NAMES: [&str; EVENTS] = [
    "culled",
    "rescued",
    "mlocked",
    "munlocked",
    "cleared",
    "stranded",
];
pub const CULLED: usize = 0;
pub const RESCUED: usize = 1;
pub const PGMLOCKED: usize = 2;
pub const MUNLOCKED: usize = 3;
pub const CLEARED: usize = 4;
pub const STRANDED: usize = 5;

/// A lock that one task has at a time; the number of that.
#[repr(C)]
pub struct Lock {
    pub owner: Cell<u8>,
    /// Where it stands in the order of locks.
    pub rank: Cell<u8>,
}

// The order in which locks are taken; those of one rank, one at a time.
pub const RANK_MMAP: u8 = 1;
pub const RANK_FOLIO: u8 = 2;
pub const RANK_PTL: u8 = 3;
pub const RANK_LOCAL: u8 = 4;
pub const RANK_LRUVEC: u8 = 5;
pub const RANK_LRUVEC_PARENT: u8 = 6;

impl Lock {
    pub const fn new(rank: u8) -> Self {
        Self {
            owner: Cell::new(NOBODY),
            rank: Cell::new(rank),
        }
    }
}

/// A lock that many may have for reading.
pub struct RwLock {
    pub writer: Cell<u8>,
    pub readers: Cell<u8>,
}

/// What a folio maps to, of what makes it unevictable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    Anon,
    File,
    /// `AS_UNEVICTABLE`: `SHM_LOCK`
    ShmLocked,
    /// Truncated.
    None,
}

#[repr(C)]
pub struct Folio {
    pub flags: Cell<usize>,
    pub mlock_count: Cell<u32>,
    pub refcount: Cell<i32>,
    pub mapcount: Cell<i32>,
    pub nr_pages: Cell<u32>,
    /// At which page of a vma it is mapped.
    pub offset: Cell<u8>,
    /// The list that it is linked to.
    pub list: Cell<u8>,
    /// Its lruvec, by what it is charged to.
    pub home: Cell<u8>,
    pub mapping: Cell<Mapping>,
    pub exists: Cell<bool>,
    pub freed: Cell<bool>,
    /// Who has taken it off its list, or is going to.
    pub claim: Cell<u8>,
    pub lock: Lock,
}

#[repr(C)]
pub struct Lruvec {
    pub lock: Lock,
    pub sizes: [Cell<i32>; LISTS],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct FolioBatch {
    pub nr: u8,
    pub i: u8,
    pub percpu_pvec_drained: bool,
    pub folios: [*mut Folio; BATCH],
}

/// `struct mlock_fbatch`. The C has no folios that are but counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MlockBatch {
    pub fbatch: FolioBatch,
    pub nr_dead: u8,
}

pub struct Cpu {
    /// `mlock_fbatch`
    pub mlock_lock: Lock,
    pub mlock: UnsafeCell<MlockBatch>,
    /// `cpu_fbatches`
    pub lru_lock: Lock,
    pub lru_add: UnsafeCell<FolioBatch>,
    pub online: Cell<bool>,
    /// How many references were left in the mlock batch when its lock was dropped, and are yet to be
    /// put; and how often the last one of them was.
    pub waiting: Cell<u8>,
    pub drained: Cell<u8>,
}

/// What a page table entry says: 0, or a folio and a page of it that is mapped or being migrated.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pte(pub u8);

impl Pte {
    pub const NONE: Self = Self(0);

    pub fn present(folio: usize, page: usize) -> Self {
        Self(0x10 | (folio << 1 | page) as u8)
    }

    pub fn migration(folio: usize, page: usize) -> Self {
        Self(0x20 | (folio << 1 | page) as u8)
    }

    pub fn is_present(self) -> bool {
        self.0 & 0x10 != 0
    }

    pub fn is_migration(self) -> bool {
        self.0 & 0x20 != 0
    }

    pub fn folio(self) -> usize {
        usize::from(self.0 >> 1 & 0x7)
    }

    pub fn page(self) -> usize {
        usize::from(self.0 & 1)
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VmaFlags {
    pub __vma_flags: [usize; 1],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct VmaFlagsUnion {
    pub flags: VmaFlags,
}

pub struct Vma {
    pub vm_mm: *mut MmStruct,
    pub anon_vma: *mut c_void,
    pub __bindgen_anon_2: VmaFlagsUnion,
    /// Whether there is a page table.
    pub pmd: Cell<u8>,
    pub ptes: [Cell<Pte>; PTES],
    pub ptl: Lock,
    pub index: usize,
    /// Whether rmap finds it, and whether faults do.
    pub exists: Cell<bool>,
    pub attached: Cell<bool>,
}

impl Vma {
    pub fn start(&self) -> usize {
        (self.index + 1) << 20
    }

    pub fn end(&self) -> usize {
        self.start() + PTES * crate::page::PAGE_SIZE
    }

    pub fn flags(&self) -> usize {
        // SAFETY: A plain word; there is one thread.
        unsafe { (&raw const self.__bindgen_anon_2.flags.__vma_flags[0]).read_volatile() }
    }

    pub fn set_flags(&self, flags: usize) {
        // SAFETY: As above; the world is not in read-only memory, and nobody keeps a reference to
        // the word.
        unsafe {
            (&raw const self.__bindgen_anon_2.flags.__vma_flags[0])
                .cast_mut()
                .write_volatile(flags)
        };
    }
}

pub struct MmParts {
    pub locked_vm: usize,
    pub total_vm: usize,
    pub mm_mt: usize,
}

pub struct MmStruct {
    pub __bindgen_anon_1: MmParts,
    pub def_vma_flags: VmaFlags,
    pub mmap_lock: RwLock,
}

pub struct World {
    pub folios: [Folio; FOLIOS],
    pub lruvecs: [Lruvec; LRUVECS],
    pub vmas: [Vma; VMAS],
    pub mms: [MmStruct; VMAS],
    pub cpus: [Cpu; CPUS],
    pub nr_mlock: Cell<i32>,
    pub events: [Cell<i32>; EVENTS],
    pub lru_disabled: Cell<bool>,
    /// PREEMPT_RT
    pub rt: Cell<bool>,
    /// `lru_gen_enabled()`
    pub lru_gen: Cell<bool>,
    /// Whether large folios are mlocked and munlocked after the batch was drained, as the Rust does
    /// by itself: for the C to be compared with.
    pub large_apart: Cell<bool>,
    /// Whether what a folio is charged to changes in this scenario, so that reading it is a step.
    pub reparents: Cell<bool>,
    /// The folio that tasks are about.
    pub focus: Cell<usize>,
}

thread_local! {
    // Each thread of the checker has a world of its own.
    static WORLD: UnsafeCell<World> = const { UnsafeCell::new(World::new()) };
}

/// The shared memory.
pub fn world() -> &'static World {
    // SAFETY: The world of a thread is there for as long as the thread, which keeps the reference
    // to itself. `reset()` is called between two runs only; what is changed through the reference is
    // in cells.
    unsafe { &*WORLD.with(UnsafeCell::get) }
}

/// Forgets all that was done.
pub fn reset() {
    let world = WORLD.with(UnsafeCell::get);
    // SAFETY: No task runs, so nothing refers to it.
    unsafe {
        world.write(World::new());
        for i in 0..VMAS {
            (*world).vmas[i].vm_mm = &raw mut (*world).mms[i];
        }
    }
}

impl FolioBatch {
    pub const EMPTY: Self = Self {
        nr: 0,
        i: 0,
        percpu_pvec_drained: false,
        folios: [ptr::null_mut(); BATCH],
    };
}

impl MlockBatch {
    pub const EMPTY: Self = Self {
        fbatch: FolioBatch::EMPTY,
        nr_dead: 0,
    };
}

impl World {
    const fn new() -> Self {
        Self {
            folios: [const {
                Folio {
                    flags: Cell::new(0),
                    mlock_count: Cell::new(POISON),
                    refcount: Cell::new(0),
                    mapcount: Cell::new(0),
                    nr_pages: Cell::new(1),
                    offset: Cell::new(0),
                    list: Cell::new(NO_LIST),
                    home: Cell::new(0),
                    mapping: Cell::new(Mapping::None),
                    exists: Cell::new(false),
                    freed: Cell::new(false),
                    claim: Cell::new(NOBODY),
                    lock: Lock::new(RANK_FOLIO),
                }
            }; FOLIOS],
            lruvecs: [Self::lruvec(RANK_LRUVEC), Self::lruvec(RANK_LRUVEC_PARENT)],
            vmas: [Self::vma(0), Self::vma(1)],
            mms: [Self::mm(0), Self::mm(1)],
            cpus: [const {
                Cpu {
                    mlock_lock: Lock::new(RANK_LOCAL),
                    mlock: UnsafeCell::new(MlockBatch::EMPTY),
                    lru_lock: Lock::new(RANK_LOCAL),
                    lru_add: UnsafeCell::new(FolioBatch::EMPTY),
                    online: Cell::new(true),
                    waiting: Cell::new(0),
                    drained: Cell::new(0),
                }
            }; CPUS],
            nr_mlock: Cell::new(0),
            events: [const { Cell::new(0) }; EVENTS],
            lru_disabled: Cell::new(false),
            rt: Cell::new(false),
            lru_gen: Cell::new(false),
            large_apart: Cell::new(false),
            reparents: Cell::new(false),
            focus: Cell::new(0),
        }
    }

    const fn lruvec(rank: u8) -> Lruvec {
        Lruvec {
            lock: Lock::new(rank),
            sizes: [const { Cell::new(0) }; LISTS],
        }
    }

    const fn vma(index: usize) -> Vma {
        Vma {
            vm_mm: ptr::null_mut(),
            anon_vma: ptr::dangling_mut(),
            __bindgen_anon_2: VmaFlagsUnion {
                flags: VmaFlags { __vma_flags: [0] },
            },
            pmd: Cell::new(1),
            ptes: [const { Cell::new(Pte::NONE) }; PTES],
            ptl: Lock::new(RANK_PTL),
            index,
            exists: Cell::new(false),
            attached: Cell::new(false),
        }
    }

    const fn mm(index: usize) -> MmStruct {
        MmStruct {
            __bindgen_anon_1: MmParts {
                locked_vm: 0,
                total_vm: 0,
                mm_mt: index,
            },
            def_vma_flags: VmaFlags { __vma_flags: [0] },
            mmap_lock: RwLock {
                writer: Cell::new(NOBODY),
                readers: Cell::new(0),
            },
        }
    }

    pub fn index_of(&self, folio: *const Folio) -> usize {
        let offset = folio.addr().wrapping_sub((&raw const self.folios).addr());
        let index = offset / size_of::<Folio>();
        if offset % size_of::<Folio>() != 0 || index >= FOLIOS {
            super::sched::fail("a pointer to a folio that is none");
        }
        index
    }

    pub fn folio(&self, folio: *const Folio) -> &Folio {
        &self.folios[self.index_of(folio)]
    }

    /// Mixes all that tasks can see of this memory into a hash.
    pub fn hash(&self, h: &mut Hash) {
        for f in &self.folios {
            h.mix(f.flags.get() as u64 | u64::from(f.mlock_count.get()) << 32);
            h.mix(f.refcount.get() as u64 | (f.mapcount.get() as u64) << 32);
            h.mix_bytes([
                f.list.get(),
                f.home.get(),
                f.mapping.get() as u8,
                f.exists.get().into(),
                f.freed.get().into(),
                f.claim.get(),
                f.lock.owner.get(),
                f.nr_pages.get() as u8 | f.offset.get() << 4,
            ]);
        }
        for l in &self.lruvecs {
            let mut word = u64::from(l.lock.owner.get());
            for size in &l.sizes {
                word = word << 8 | size.get() as u8 as u64;
            }
            h.mix(word);
        }
        for (v, m) in self.vmas.iter().zip(&self.mms) {
            h.mix(v.flags() as u64);
            h.mix_bytes([
                v.pmd.get(),
                v.ptl.owner.get(),
                v.exists.get().into(),
                v.attached.get().into(),
                m.mmap_lock.writer.get(),
                m.mmap_lock.readers.get(),
                0,
                0,
            ]);
            let mut ptes = [0; 8];
            for (byte, pte) in ptes.iter_mut().zip(&v.ptes) {
                *byte = pte.get().0;
            }
            h.mix_bytes(ptes);
        }
        for c in &self.cpus {
            h.mix_bytes([
                c.mlock_lock.owner.get(),
                c.lru_lock.owner.get(),
                c.online.get().into(),
                c.waiting.get(),
                c.drained.get(),
                0,
                0,
                0,
            ]);
            // SAFETY: No task is running.
            unsafe {
                h.mix_mlock_batch(&*c.mlock.get());
                h.mix_batch(&*c.lru_add.get());
            }
        }
        h.mix(self.nr_mlock.get() as u64 | u64::from(self.lru_disabled.get()) << 32);
        for pair in self.events.chunks(2) {
            h.mix(pair[0].get() as u32 as u64 | (pair[1].get() as u64) << 32);
        }
    }
}

/// A hash of 128 bits, in which two states that differ are taken to differ too.
#[derive(Clone, Copy)]
pub struct Hash(u64, u64);

impl Hash {
    pub const fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }

    pub fn from(value: u128) -> Self {
        Self(value as u64, (value >> 64) as u64)
    }

    pub fn mix(&mut self, word: u64) {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a).wrapping_mul(u128::from(b));
            product as u64 ^ (product >> 64) as u64
        };
        let (a, b) = (self.0, self.1);
        // So that no state of the hash keeps zeros as they are.
        let word = word ^ 0xa076_1d64_78bd_642f;
        self.0 = fold(a ^ word, 0x9e37_79b9_7f4a_7c15) ^ b;
        self.1 = fold(b ^ word.rotate_left(32), 0xd6e8_feb8_6659_fd93).wrapping_add(a);
    }

    pub fn raw(self) -> u128 {
        u128::from(self.0) | u128::from(self.1) << 64
    }

    pub fn mix_bytes(&mut self, bytes: [u8; 8]) {
        self.mix(u64::from_le_bytes(bytes));
    }

    pub fn mix_mlock_batch(&mut self, batch: &MlockBatch) {
        let mut entries = batch.fbatch;
        self.mix(u64::from(batch.nr_dead) << 8 | u64::from(entries.nr));
        entries.nr = (entries.nr.min(BATCH as u8)).saturating_sub(batch.nr_dead);
        self.mix_batch(&entries);
    }

    pub fn mix_batch(&mut self, batch: &FolioBatch) {
        let used = usize::from(batch.nr).min(BATCH);
        self.mix(batch.nr.into());
        for folio in &batch.folios[..used] {
            self.mix(folio.addr() as u64);
        }
    }

    pub fn get(mut self) -> u128 {
        self.mix(0x4528_21e6_38d0_1377);
        self.mix(0xbe54_66cf_34e9_0c6c);
        u128::from(self.0) | u128::from(self.1) << 64
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}
