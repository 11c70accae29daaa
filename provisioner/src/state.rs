//! What a box is doing, as people are told. Pure.
//!
//! ```text
//!            Making            Started           Answered
//!  Absent ──────────► Creating ───────► Booting ──────────► Ready ◄────────────────┐
//!    ▲                                                      │   Stopping           │ Answered
//!    │                                                      ▼                      │
//!    │ Removed                                           Stopping ──► Stopped ──► Waking
//!    └───────── Removing ◄── from any                          Rests      Started
//!
//!  any ── Failed ──► Failed { reason } ── the next attempt goes on as from Absent or Stopped
//! ```
//!
//! The box's own task is the only one that moves it ([`fleet`](crate::fleet)). Between its tasks, and after a restart
//! of the provisioner, what the engine shows says what it is: [`State::observed`].

use boxgate_provisioner_api::BoxState;

use crate::backend::{self, Change, Container};

/// What a box is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// There is none, or none of its container.
    #[default]
    Absent,
    Creating,
    Booting,
    Ready,
    Stopping,
    Stopped,
    Waking,
    Removing,
    /// An operator froze it.
    Paused,
    Failed {
        reason: String,
    },
}

/// What happened to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One of its objects is about to be made or changed on its way up.
    Making,
    /// Its container is about to be started.
    Starting,
    /// Its sshd answers.
    Answered,
    /// It was told to shut down.
    Stopping,
    /// Its container rests.
    Rests,
    /// Its container is being removed.
    Removing,
    /// Nothing of its container is left.
    Removed,
    /// The attempt failed.
    Failed { reason: String },
}

impl State {
    /// What follows. An event that a state does not expect leaves it as it is: the look at the engine after the
    /// task says what is so.
    #[must_use]
    pub fn next(self, event: Event) -> Self {
        match (self, event) {
            (_, Event::Failed { reason }) => Self::Failed { reason },
            (_, Event::Removing) => Self::Removing,
            (Self::Absent | Self::Failed { .. } | Self::Removing, Event::Making) => Self::Creating,
            (Self::Creating, Event::Starting) => Self::Booting,
            (Self::Stopped | Self::Failed { .. }, Event::Starting) => Self::Waking,
            (
                Self::Creating | Self::Booting | Self::Waking | Self::Ready | Self::Failed { .. },
                Event::Answered,
            ) => Self::Ready,
            (Self::Ready | Self::Booting | Self::Waking | Self::Failed { .. }, Event::Stopping) => {
                Self::Stopping
            }
            (Self::Stopping | Self::Failed { .. } | Self::Stopped, Event::Rests) => Self::Stopped,
            (Self::Removing, Event::Removed) => Self::Absent,
            (state, _) => state,
        }
    }

    /// What a box is doing that no task is at work on.
    #[must_use]
    pub fn observed(container: Option<&Container>) -> Self {
        match container.map(|container| &container.state) {
            None => Self::Absent,
            Some(backend::State::Running { .. }) => Self::Ready,
            Some(backend::State::Created | backend::State::Stopped { .. } | backend::State::Changing) => {
                Self::Stopped
            }
            Some(backend::State::Paused) => Self::Paused,
            Some(backend::State::Dead) => Self::Failed { reason: "its container is dead".to_owned() },
        }
    }

    /// As it is listed. A box without a container is one that the next login makes anew: it rests.
    #[must_use]
    pub fn listed(&self) -> BoxState {
        match self {
            Self::Creating => BoxState::Creating,
            Self::Booting => BoxState::Booting,
            Self::Ready => BoxState::Ready,
            Self::Stopping => BoxState::Stopping,
            Self::Absent | Self::Stopped => BoxState::Stopped,
            Self::Waking => BoxState::Waking,
            Self::Removing => BoxState::Removing,
            Self::Paused => BoxState::Paused,
            Self::Failed { .. } => BoxState::Failed,
        }
    }
}

impl Event {
    /// What a change of a box means for it, before it is made.
    #[must_use]
    pub fn before(change: &Change) -> Self {
        match change {
            Change::CreateNetwork { .. }
            | Change::RemoveSurplus { .. }
            | Change::CreateVolume(_)
            | Change::CreateContainer
            | Change::Claim { .. }
            | Change::Adopt
            | Change::BeginRestore
            | Change::Attach
            | Change::Limit => Self::Making,
            Change::Start => Self::Starting,
            Change::Stop => Self::Stopping,
            Change::RemoveContainer
            | Change::RemoveVolume(_)
            | Change::RemoveNetwork
            | Change::RemoveClaim
            | Change::EndRestore => Self::Removing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(events: &[Event]) -> Vec<State> {
        let mut state = State::default();
        events
            .iter()
            .map(|event| {
                state = std::mem::take(&mut state).next(event.clone());
                state.clone()
            })
            .collect()
    }

    #[test]
    fn the_life_of_a_box() {
        use Event::{Answered, Making, Removed, Removing, Rests, Starting, Stopping};
        use State as S;
        let life = [
            Making, Making, Starting, Answered, Stopping, Rests, Starting, Answered, Stopping, Rests,
            Removing, Removed,
        ];
        let expected = [
            S::Creating,
            S::Creating,
            S::Booting,
            S::Ready,
            S::Stopping,
            S::Stopped,
            S::Waking,
            S::Ready,
            S::Stopping,
            S::Stopped,
            S::Removing,
            S::Absent,
        ];
        assert_eq!(after(&life), expected);
    }

    #[test]
    fn a_reset_goes_through_no_box_to_a_new_one() {
        use Event::{Answered, Making, Removing, Starting};
        let states = after(&[Making, Starting, Answered, Removing, Making, Starting, Answered]);
        assert_eq!(states[3..], [State::Removing, State::Creating, State::Booting, State::Ready]);
    }

    #[test]
    fn a_failed_box_can_be_had_again() {
        let failed = Event::Failed { reason: "no image".to_owned() };
        let made = after(&[Event::Making, failed.clone(), Event::Making, Event::Starting, Event::Answered]);
        assert_eq!(made[1], State::Failed { reason: "no image".to_owned() });
        assert_eq!(made[4], State::Ready);
        let woken = after(&[failed, Event::Starting, Event::Answered]);
        assert_eq!(woken[1..], [State::Waking, State::Ready]);
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Making),
            Just(Event::Starting),
            Just(Event::Answered),
            Just(Event::Stopping),
            Just(Event::Rests),
            Just(Event::Removing),
            Just(Event::Removed),
            Just(Event::Failed { reason: "x".to_owned() }),
        ];
        proptest::collection::vec(event, 0..20)
    }

    proptest! {
        #[test]
        fn nothing_answers_that_was_not_started(events in events()) {
            let states = after(&events);
            for (i, state) in states.iter().enumerate() {
                if *state == State::Ready && (i == 0 || states[i - 1] != State::Ready) {
                    prop_assert_eq!(&events[i], &Event::Answered);
                }
            }
        }

        #[test]
        fn whatever_happened_a_box_can_be_made_to_answer(events in events()) {
            let mut all = events;
            // What the tasks see to before: an unfinished stop or removal is finished.
            all.extend([Event::Rests, Event::Removing, Event::Removed]);
            all.extend([Event::Making, Event::Starting, Event::Answered]);
            prop_assert_eq!(after(&all).pop(), Some(State::Ready));
        }
    }
}
