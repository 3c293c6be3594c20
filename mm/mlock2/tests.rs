// SPDX-License-Identifier: GPL-2.0

//! KUnit tests that need an address space. Code that needs none is tested on the host.

use kernel::prelude::*;

#[kunit_tests(mlock2)]
mod cases {
    use super::*;
    use crate::{
        abi::{
            MCL_CURRENT,
            MCL_FUTURE,
            MCL_ONFAULT, //
        },
        batch,
        do_mlock,
        memlock,
        range::PageCount,
        request::LockMode,
        walk::PageWalk, //
    };
    use kernel::{
        cpu::CpuId,
        mm::{
            vma_flags::VmaFlags,
            MmWithUser, //
        },
        page::{
            PAGE_MASK,
            PAGE_SIZE, //
        },
        uaccess::{
            UserPtr,
            UserSlice, //
        },
    };
    use mm::{
        kunit::{
            attach_mm,
            map_anonymous,
            unmap,
            with_lru_cache_disabled, //
        },
        mmap_write::MmapWrite, //
    };

    const PAGES: usize = 8;
    const LEN: usize = PAGES * PAGE_SIZE;

    // Runs a test on its own mapping of `PAGES` pages.
    fn with_mapping(test: impl FnOnce(&MmWithUser, usize) -> Result) -> Result {
        attach_mm()?;
        let addr = map_anonymous(LEN)?;
        let result = test(current!().mm().ok_or(EINVAL)?, addr);
        unmap(addr, LEN)?;
        result
    }

    // Returns how many vmas a range has, and how many of its pages are in locked ones.
    fn count(mm: &MmWithUser, addr: usize) -> Result<(usize, usize)> {
        let guard = mm.mmap_write_lock_killable()?;
        let (mut number, mut locked) = (0, 0);

        for vma in guard.vmas_in(addr, addr + LEN) {
            number += 1;
            if vma.vma_flags().contains(VmaFlags::LOCKED) {
                locked += (vma.end() - vma.start()) / PAGE_SIZE;
            }
        }
        Ok((number, locked))
    }

    #[test]
    fn flags() {
        let on_fault = VmaFlags::LOCKED_ONFAULT;

        assert!(on_fault.contains(VmaFlags::LOCKED));
        assert!(on_fault.contains(VmaFlags::NONE));
        assert!(!VmaFlags::LOCKED.contains(on_fault));
        assert!(on_fault.with_lock(VmaFlags::NONE) == VmaFlags::NONE);
        assert!(on_fault.with_lock(VmaFlags::LOCKED) == VmaFlags::LOCKED);
        assert!(VmaFlags::LOCKED.with_lock(VmaFlags::NONE) == VmaFlags::NONE);
    }

    #[test]
    fn splits_and_merges() -> Result {
        with_mapping(|mm, addr| {
            let middle = addr + 3 * PAGE_SIZE;
            let before = mm.locked_vm();

            assert_eq!(count(mm, addr)?, (1, 0));
            do_mlock::do_mlock(middle, PAGE_SIZE, LockMode::OnFault)?;
            assert_eq!(count(mm, addr)?, (3, 1));
            assert_eq!(mm.locked_vm(), before + 1);

            // The second page merges with the first.
            do_mlock::do_mlock(middle + PAGE_SIZE, PAGE_SIZE, LockMode::OnFault)?;
            assert_eq!(count(mm, addr)?, (3, 2));

            do_mlock::munlock(middle, 2 * PAGE_SIZE)?;
            assert_eq!(count(mm, addr)?, (1, 0));
            assert_eq!(mm.locked_vm(), before);
            Ok(())
        })
    }

    #[test]
    fn charges_once() -> Result {
        with_mapping(|mm, addr| {
            let before = mm.locked_vm();

            do_mlock::do_mlock(addr, LEN, LockMode::OnFault)?;
            assert_eq!(mm.locked_vm(), before + PAGES);
            do_mlock::do_mlock(addr, LEN, LockMode::Locked)?;
            do_mlock::do_mlock(addr, LEN, LockMode::OnFault)?;
            assert_eq!(mm.locked_vm(), before + PAGES);
            do_mlock::munlock(addr, LEN)?;
            do_mlock::munlock(addr, LEN)?;
            assert_eq!(mm.locked_vm(), before);
            Ok(())
        })
    }

    #[test]
    fn stops_at_a_hole() -> Result {
        with_mapping(|mm, addr| {
            let before = mm.locked_vm();

            unmap(addr + 4 * PAGE_SIZE, PAGE_SIZE)?;
            let result = do_mlock::do_mlock(addr, LEN, LockMode::OnFault);
            assert_eq!(result, Err(ENOMEM));
            assert_eq!(count(mm, addr)?, (2, 4));
            assert_eq!(mm.locked_vm(), before + 4);
            do_mlock::munlock(addr, 4 * PAGE_SIZE)?;
            assert_eq!(mm.locked_vm(), before);
            Ok(())
        })
    }

    #[test]
    fn all_and_future() -> Result {
        with_mapping(|mm, addr| {
            do_mlock::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)?;
            assert_eq!(count(mm, addr)?, (1, PAGES));

            let later = map_anonymous(LEN)?;
            let locked = mm.locked_vm();
            unmap(later, LEN)?;
            assert_eq!(mm.locked_vm() + PAGES, locked);

            do_mlock::munlockall()?;
            assert_eq!(count(mm, addr)?, (1, 0));
            let later = map_anonymous(LEN)?;
            assert_eq!(mm.locked_vm(), 0);
            unmap(later, LEN)
        })
    }

    // No system call reaches this function: it is for drivers.
    #[test]
    fn account_locked_vm() -> Result {
        with_mapping(|mm, addr| {
            do_mlock::do_mlock(addr, 5 * PAGE_SIZE, LockMode::OnFault)?;
            let locked = mm.locked_vm();
            let account = |pages, inc, bypass_rlim| {
                let pages = PageCount::new(pages);
                memlock::account_locked_vm(mm, pages, inc, current!(), bypass_rlim)
            };
            // More than even RLIM_INFINITY allows.
            let many = usize::MAX / 2;

            assert_eq!(account(many, true, false), Err(ENOMEM));
            assert_eq!(account(many, true, true), Ok(PageCount::new(many + locked)));
            assert_eq!(account(3, false, false), Ok(PageCount::new(locked - 3)));
            assert_eq!(account(3, false, true), Ok(PageCount::new(locked - 3)));
            Ok(())
        })
    }

    // Returns whether any folio is pending in a batch. Tests that call this require that nobody
    // else locks memory, as during boot.
    fn pending() -> bool {
        (0..kernel::cpu::nr_cpu_ids())
            .filter_map(CpuId::from_u32)
            .any(batch::need_mlock_drain)
    }

    // Code that isolates folios for good relies on no folio being pending in a batch.
    #[test]
    fn batches_can_be_disabled() -> Result {
        with_mapping(|_, addr| {
            // A test that fails in the closure would leave the batches disabled.
            let left = with_lru_cache_disabled(|| {
                do_mlock::do_mlock(addr, LEN, LockMode::Locked)?;
                let locked = pending();
                unmap(addr, PAGE_SIZE)?;
                Ok::<_, Error>((locked, pending()))
            })?;
            assert_eq!(left, (false, false));
            Ok(())
        })
    }

    // While the mlocks of a vma's folios are pending, rmap walks must leave the folios alone, or
    // they would count them as well.
    #[test]
    fn marked_until_folios_are_counted() -> Result {
        with_mapping(|mm, addr| {
            let mut walk = PageWalk::new();
            // Returns whether folios are still pending after the walk, and whether the vma has the
            // marker. Must not fail the test, since the mmap lock is held.
            let mut publish = |lock| -> Result<(bool, bool)> {
                let mut guard = mm.mmap_write_lock_killable()?;
                let mut vmas = guard.vmas_mut(addr, addr + LEN);
                let vma = vmas.first().ok_or(EINVAL)?;
                let flags = vma.vma_flags().with_lock(lock);
                let vma = vma.lockable().ok_or(EINVAL)?;
                let vma = vma.modify_flags(lock)?;
                Ok(vma.publish_lock_flags(|vma| {
                    walk.mlock_vma_pages_range(vma, false);
                    (pending(), vma.vma_flags() != flags)
                }))
            };

            // Drain the folios that other tests have left pending on other CPUs.
            with_lru_cache_disabled(|| ());
            // The first walk drains the batches of new folios, the second one does not: it finds
            // the folios below on no LRU list.
            assert_eq!(publish(VmaFlags::NONE)?, (false, false));
            for page in 0..PAGES {
                let at = UserPtr::from_addr(addr + page * PAGE_SIZE);
                UserSlice::new(at, 1).writer().write_slice(&[1])?;
            }
            let locked = publish(VmaFlags::LOCKED)?;
            let unlocked = publish(VmaFlags::NONE)?;

            assert_eq!(locked, (false, true));
            assert_eq!(unlocked, (false, false));
            Ok(())
        })
    }

    // The abstraction must not pass C a range outside the vma.
    #[test]
    fn parts_are_pages_of_vma_and_range() -> Result {
        with_mapping(|mm, addr| {
            let (start, end) = (addr + PAGE_SIZE, addr + LEN - PAGE_SIZE);
            let ranges = [
                ((start, end), Some((start, end))),
                ((addr, addr + LEN), Some((start, end))),
                ((addr, start + PAGE_SIZE), Some((start, start + PAGE_SIZE))),
                ((end - PAGE_SIZE, addr + LEN), Some((end - PAGE_SIZE, end))),
                ((start + 1, end - 1), Some((start, end - PAGE_SIZE))),
                ((start, start + PAGE_SIZE - 1), None),
                ((start, start), None),
                ((end, start), None),
                ((addr, start), None),
                ((end, addr + LEN), None),
            ];

            // Nothing is mapped beside it.
            unmap(addr, PAGE_SIZE)?;
            unmap(end, PAGE_SIZE)?;
            for ((start, end), part) in ranges {
                let mut guard = mm.mmap_write_lock_killable()?;
                let mut vmas = guard.vmas_mut(start, end);
                let found = vmas.next().map(|vma| (vma.part_start(), vma.part_end()));
                assert_eq!(found, part);

                // If it is there, the first one contains the start.
                let mut vmas = guard.vmas_mut(start, end);
                let first = vmas.first().map(|vma| (vma.part_start(), vma.part_end()));
                assert_eq!(first, part.filter(|part| part.0 == start & PAGE_MASK));
                assert!(vmas.first().is_none());
            }
            Ok(())
        })
    }
}
