// SPDX-License-Identifier: GPL-2.0

//! CPU numbers.

use crate::model::world::CPUS;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CpuId(u32);

impl CpuId {
    pub fn from_i32(id: i32) -> Option<Self> {
        usize::try_from(id)
            .is_ok_and(|id| id < CPUS)
            .then_some(Self(id as u32))
    }

    pub fn as_u32(&self) -> u32 {
        self.0
    }
}
