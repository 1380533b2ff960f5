//! `sys/rotate`, `sys/strongroom/slots`, `sys/strongroom/rotations`, `sys/strongroom/terms`: orders for the keeper, and
//! the state of its work.

use crate::api::reply::Reply;
use crate::api::rotation::{
    RekeyBody, RotateBody, RotationList, SlotChange, SlotList, SlotRemove, SlotTest, SlotWrite, TermList,
};
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data};
use crate::core::certificates::schedule;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::rotation::keys::slots::info;
use crate::core::rotation::keys::view::{reply, shown, term};
use crate::core::rotation::keys::{config, record};
use crate::core::rotation::orders::{Key, Making, Order, SlotOrder, TermOrder};

pub(super) fn test(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotTest { unlock } = SlotTest::read(inquiry.body)?;
    Ok(Order::Slot(SlotOrder::Test(Key::try_from(unlock)?)))
}

pub(super) fn add(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotWrite { unlock, new } = SlotWrite::read(inquiry.body)?;
    let (label, making) = Making::read(new)?;
    Ok(Order::Slot(SlotOrder::Add { unlock: Key::try_from(unlock)?, label, making }))
}

pub(super) fn change(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    Ok(Order::Slot(SlotOrder::try_from(SlotChange::read(inquiry.body)?)?))
}

pub(super) fn remove(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotRemove { slot, unlock } = SlotRemove::read(inquiry.body)?;
    Ok(Order::Slot(SlotOrder::Remove { unlock: Key::try_from(unlock)?, slot }))
}

pub(super) fn rekey(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    Ok(Order::Slot(SlotOrder::try_from(RekeyBody::read(inquiry.body)?)?))
}

pub(super) fn rotate(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let RotateBody { deep, full_speed } = RotateBody::read(inquiry.body)?;
    Ok(Order::Term(TermOrder::Rotate { deep, full_speed }))
}

/// `rotations/<id>/pause`, `resume`, `abort`.
pub(super) fn steer(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let (id, verb) = inquiry.tail.split_once('/').unwrap_or((&inquiry.tail, ""));
    let id = id.to_owned();
    Ok(Order::Term(match verb {
        "pause" => TermOrder::Pause(id),
        "resume" => TermOrder::Resume { id, full_speed: inquiry.body.only(&["full_speed"])?.flag("full_speed")? },
        "abort" => TermOrder::Abort(id),
        _ => return Err(VaultError::NotFound),
    }))
}

/// The slots of the current header.
pub(super) fn slots(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let header = inquiry.live.barrier.header();
    data(&SlotList { slots: header.slots.iter().map(info).collect(), header: header.seq })
}

/// The terms of the keyring.
pub(super) fn terms(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&TermList { terms: inquiry.live.barrier.terms().iter().map(term).collect() })
}

/// All rotations, oldest first.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let runs = record::all(&inquiry.view(MountId::ROTATION))?;
    data(&RotationList { rotations: runs.iter().map(shown).collect(), certificates: schedule::rows(inquiry)? })
}

/// One rotation as it is shown.
pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    if let Some(row) = schedule::rows(inquiry)?.into_iter().find(|row| row.id == inquiry.tail) {
        return data(&row);
    }
    reply(&record::one(&inquiry.live.barrier.view(MountId::ROTATION), &inquiry.tail)?)
}

/// `GET sys/rotate/config`.
pub(super) fn read_config(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&config::read(&inquiry.live.barrier.view(MountId::ROTATION))?)
}

/// `POST sys/rotate/config`: absent fields stay unchanged.
pub(super) fn write_config(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    config::change(tx, change.body.only(&["enabled", "max_operations", "interval"])?)?;
    Ok(Done::of(Reply::none()))
}
