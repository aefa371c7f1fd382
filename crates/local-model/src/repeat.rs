//! Notices when a model repeats itself without end, which small models do when decoded greedily.

/// The longest phrase, in tokens, whose repetition is looked for.
const PERIOD_MAX: usize = 48;
/// How often a phrase must have come in a row, and how many tokens that must have cost.
const ROUNDS_MIN: usize = 5;
const TOKENS_MIN: usize = 40;

/// The token that would go on with the loop `tokens` is in, if it is in one.
pub fn next_of_loop<T: Copy + PartialEq>(tokens: &[T]) -> Option<T> {
    let longest = PERIOD_MAX.min(tokens.len() / ROUNDS_MIN);
    let period = (1..=longest).find(|period| {
        let span = (period * ROUNDS_MIN).max(TOKENS_MIN);
        tokens.len() >= span + period && {
            let tail = &tokens[tokens.len() - span..];
            let before = &tokens[tokens.len() - span - period..tokens.len() - period];
            tail == before
        }
    })?;
    tokens.get(tokens.len() - period).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_and_its_next_token_named() {
        let looped: Vec<u32> = [9, 8].into_iter().chain((0..90).map(|n| n % 7)).collect();
        assert_eq!(next_of_loop(&looped), Some(90 % 7));
        assert_eq!(next_of_loop(&vec![4; 60]), Some(4));
    }

    #[test]
    fn ordinary_repetition_is_left_alone() {
        assert_eq!(next_of_loop(&(0..300).collect::<Vec<u32>>()), None);
        assert_eq!(next_of_loop(&[4; 30]), None, "thirty blanks are not a loop");
        let table: Vec<u32> = (0..300).map(|n| if n % 10 == 9 { n } else { n % 10 }).collect();
        assert_eq!(next_of_loop(&table), None, "rows that differ in one place");
        assert_eq!(next_of_loop::<u32>(&[]), None);
    }
}
