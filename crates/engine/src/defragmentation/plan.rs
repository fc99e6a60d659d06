//! [`PoolPlan`]: the way through one pool.

use super::evacuate::Evacuation;
use super::info::DefragmentationInfo;
use super::pass::Pass;
use super::slide::Slides;
use super::state::PlanState;
use super::survey::Survey;
use super::tidy::Tidying;
use crate::handle::PoolKey;
use crate::pools::pool::Pool;

/// What a step of a plan leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next step.
    Next,
    /// The moves so far have to end before the next step makes sense.
    Wait,
    /// Nothing: the pool is done.
    Done,
}

/// The stage of a round.
pub(super) enum Stage {
    Survey(Survey),
    Evacuate(Evacuation),
    /// The moves of an evacuation have ended.
    Evacuated,
    Tidy(Tidying),
    /// The moves of a sweep have ended.
    Tidied(Tidying),
    Slide(Slides),
    Refill(Evacuation),
    Done,
}

impl Stage {
    /// Returns the first stage of a round.
    pub fn first() -> Self {
        Self::Survey(Survey::default())
    }
}

/// The way through one pool.
pub(super) struct PoolPlan {
    pub pool_key: PoolKey,
    pub state: PlanState,
    stage: Stage,
}

impl PoolPlan {
    /// Begins with a survey.
    pub fn new(pool_key: PoolKey, info: &DefragmentationInfo) -> Self {
        let state = PlanState::new(info.algorithm, info.slides);
        Self { pool_key, state, stage: Stage::first() }
    }

    /// Makes the next step, which may add moves to the pass.
    pub fn advance(&mut self, pool: &Pool, pass: &mut Pass<'_>) -> Step {
        let state = &mut self.state;
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Survey(mut survey) => {
                if state.survey(pool, &mut survey, pass) {
                    let evacuation = Evacuation::of_emptiest(state, survey.early);
                    return self.go_on(Stage::Evacuate(evacuation));
                }
                let may_go_on = survey.is_short(pass) || pass.may_survey(survey.pace(state, pass));
                if survey.early.is_done() || may_go_on {
                    return self.go_on(Stage::Survey(survey));
                }
                // What is known so far is enough for some moves.
                let before = pass.moves.len();
                state.evacuate(pool, &mut survey.early, pass);
                state.is_tidy &= pass.moves.len() == before;
                self.go_on(Stage::Survey(survey))
            }
            Stage::Evacuate(mut evacuation) => match state.evacuate(pool, &mut evacuation, pass) {
                false => self.go_on(Stage::Evacuate(evacuation)),
                true => self.wait_for(Stage::Evacuated),
            },
            Stage::Evacuated if state.take_progress() => {
                state.is_tidy = false;
                self.go_on(Stage::first())
            }
            Stage::Evacuated => match state.tidying() {
                Some(tidying) => self.go_on(Stage::Tidy(tidying)),
                None => self.begin_sliding(pool),
            },
            Stage::Tidy(tidying) => match state.tidy(pool, tidying, pass) {
                (unfinished, false) => self.go_on(Stage::Tidy(unfinished)),
                (swept, true) => self.wait_for(Stage::Tidied(swept)),
            },
            Stage::Tidied(swept) => {
                let has_progressed = swept.has_progressed;
                match state.sweep_again(swept) {
                    Some(again) => self.go_on(Stage::Tidy(again)),
                    None if has_progressed => self.go_on(Stage::first()),
                    None => self.begin_sliding(pool),
                }
            }
            Stage::Slide(slides) => match state.slide(pool, slides, pass) {
                Some((unfinished, false)) => self.go_on(Stage::Slide(unfinished)),
                Some((unfinished, true)) => self.wait_for(Stage::Slide(unfinished)),
                None if state.take_progress() => self.go_on(Stage::first()),
                None => self.begin_refill(pool),
            },
            Stage::Refill(mut evacuation) => match state.evacuate(pool, &mut evacuation, pass) {
                false => self.go_on(Stage::Refill(evacuation)),
                true => self.wait_for(Stage::first()),
            },
            Stage::Done => Step::Done,
        }
    }

    fn begin_sliding(&mut self, pool: &Pool) -> Step {
        match self.state.slides() {
            Some(slides) => self.go_on(Stage::Slide(slides)),
            None => self.begin_refill(pool),
        }
    }

    fn begin_refill(&mut self, pool: &Pool) -> Step {
        match self.state.refill(pool) {
            Some(evacuation) => self.go_on(Stage::Refill(evacuation)),
            None => self.go_on(Stage::Done),
        }
    }

    fn go_on(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Next
    }

    fn wait_for(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Wait
    }
}
