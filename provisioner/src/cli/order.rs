//! `new`, `start`, `stop`, `restart`, `reset`, `rm`: what changes boxes.

use std::sync::{Mutex, PoisonError};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BoxState, BoxSummary, Client, Order, OrderRequest};
use futures_util::{StreamExt, stream};

use super::arguments::{Chosen, Confirmed};
use super::error::{CliError, Exit};
use super::site::{Site, asker, find};
use super::terminal::{ask, can_ask, complain, tell};
use crate::failure::one_line;

/// Orders under way at once; the provisioner has a bound of its own for what is costly.
const AT_ONCE: usize = 8;

pub(super) async fn one(site: &Site, order: Order, id: &DevBoxId) -> Result<Exit, CliError> {
    give(&site.client()?, order, id).await?;
    Ok(Exit::Done)
}

/// All are tried, whatever becomes of the others; the first failure gives the exit code.
pub(super) async fn some(site: &Site, order: Order, chosen: Chosen) -> Result<Exit, CliError> {
    let client = site.client()?;
    let boxes = if chosen.all { all(&client, order).await? } else { chosen.boxes };
    if boxes.is_empty() {
        tell(&format!("there is no box to {}", verb(order)));
    }
    let worst = Mutex::new(Exit::Done);
    let giving = stream::iter(&boxes).for_each_concurrent(AT_ONCE, |id| {
        let (client, worst) = (&client, &worst);
        async move {
            if let Err(error) = give(client, order, id).await {
                complain(&error);
                let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                if *worst == Exit::Done {
                    *worst = error.exit();
                }
            }
        }
    });
    giving.await;
    Ok(worst.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Those that the order would change.
async fn all(client: &Client, order: Order) -> Result<Vec<DevBoxId>, CliError> {
    let boxes = client.boxes().await?;
    Ok(boxes.into_iter().filter(|devbox| concerns(order, devbox.state)).map(|devbox| devbox.id).collect())
}

fn concerns(order: Order, state: BoxState) -> bool {
    match order {
        Order::Start => matches!(state, BoxState::Stopped | BoxState::Stopping | BoxState::Failed),
        Order::Stop => !matches!(state, BoxState::Stopped | BoxState::Stopping | BoxState::Removing),
        Order::Restart => matches!(state, BoxState::Booting | BoxState::Ready | BoxState::Waking),
        Order::New | Order::Reset | Order::Remove => true,
    }
}

/// Does what loses data only when the box's name was given again.
pub(super) async fn confirmed(site: &Site, order: Order, asked: &Confirmed) -> Result<Exit, CliError> {
    let (client, id) = (site.client()?, &asked.devbox);
    match &asked.yes {
        Some(again) if again == id => {}
        Some(_) => return Err(CliError::NotConfirmed(id.clone())),
        None if !can_ask() => return Err(CliError::Unasked { id: id.clone(), verb: verb(order) }),
        None => {
            tell(&warning(order, &find(client.boxes().await?, id)?));
            if ask("Type the box's name to go on: ")? != id.to_string() {
                return Err(CliError::NotConfirmed(id.clone()));
            }
        }
    }
    give(&client, order, id).await?;
    Ok(Exit::Done)
}

/// What is about to be lost.
fn warning(order: Order, devbox: &BoxSummary) -> String {
    let id = &devbox.id;
    let lost = match order {
        Order::Remove => "is removed with its home, its Docker data and all else in it, for good",
        _ => "is made anew: its home and its Docker data stay, all else in it is lost",
    };
    match devbox.connections {
        0 => format!("box {id} {lost}"),
        1 => format!("box {id} {lost}; a connection to it ends"),
        count => format!("box {id} {lost}; {count} connections to it end"),
    }
}

async fn give(client: &Client, order: Order, id: &DevBoxId) -> Result<(), CliError> {
    let request = OrderRequest { devbox: id.clone(), order, client: asker() };
    client.order(&request, |progress| tell(&format!("{id}: {}", one_line(&progress.text)))).await?;
    tell(&format!("{id}: {}", done(order)));
    Ok(())
}

fn verb(order: Order) -> &'static str {
    match order {
        Order::New => "new",
        Order::Start => "start",
        Order::Stop => "stop",
        Order::Restart => "restart",
        Order::Reset => "reset",
        Order::Remove => "rm",
    }
}

fn done(order: Order) -> &'static str {
    match order {
        Order::New | Order::Start | Order::Restart => "ready",
        Order::Stop => "stopped",
        Order::Reset => "made anew",
        Order::Remove => "removed",
    }
}
