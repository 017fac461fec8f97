//! A history in memory: every line read once, answers joined to their attempts.
//!
//! Reading never fails: a line that cannot be understood is kept with its number and its reason, and makes the verdict
//! undecided at best. The text itself is kept, so that a violation can show the very lines that prove it.
//!
//! Deliberately absent: any judgement. A second answer to one attempt is a malformed line here, not a violation.

use std::collections::HashMap;

use serde::de::DeserializeOwned;

use crate::{
    dump::{Entry, ShardEnd},
    event::{Anchor, End, Fault, Inv, Open, Out, Ret},
    text::Head,
};

/// Everything that one file says.
#[derive(Debug, Default)]
pub struct History {
    /// What clients asked, in the order of the file, with the answers.
    pub attempts: Vec<Attempt>,
    /// What nodes hold.
    pub entries: Vec<Entry>,
    /// Where copies of shards end.
    pub shards: Vec<ShardEnd>,
    /// Wall clocks.
    pub anchors: Vec<Anchor>,
    /// What still waits.
    pub opens: Vec<Open>,
    /// Faults begun and ended.
    pub faults: Vec<Fault>,
    /// Present when the dump is complete.
    pub end: Option<End>,
    /// Lines that could not be understood.
    pub malformed: Vec<Malformed>,
    text: String,
    starts: Vec<usize>,
}

/// One attempt and its answer.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was asked.
    pub inv: Inv,
    /// Where that stands in the file, from 1.
    pub inv_line: usize,
    /// The answer; none means unknown.
    pub ret: Option<Ret>,
    /// Where that stands in the file, from 1; zero without an answer.
    pub ret_line: usize,
}

impl Attempt {
    /// Returns what the client knows: no answer is `unknown`.
    pub fn out(&self) -> Out {
        self.ret.as_ref().map_or(Out::Unknown, |ret| ret.out)
    }

    /// Returns the lines that show this attempt.
    pub fn lines(&self) -> Vec<usize> {
        if self.ret_line == 0 { vec![self.inv_line] } else { vec![self.inv_line, self.ret_line] }
    }
}

/// A line that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl History {
    /// Reads a whole history; what cannot be read is in [`History::malformed`].
    pub fn parse(text: impl Into<String>) -> Self {
        let mut history = Self { text: text.into(), ..Self::default() };
        let text = std::mem::take(&mut history.text);
        let mut reader = Reader { history, attempts: HashMap::new(), answers: Vec::new() };
        for (index, row) in text.lines().enumerate() {
            reader.history.starts.push(row.as_ptr() as usize - text.as_ptr() as usize);
            if !row.trim().is_empty()
                && let Err(why) = reader.read(row, index + 1)
            {
                reader.history.malformed.push(Malformed { line: index + 1, why });
            }
        }
        let mut history = reader.joined();
        history.text = text;
        history
    }

    /// Returns the text of a line, counted from 1; empty when there is no such line.
    pub fn line(&self, number: usize) -> &str {
        let Some(start) = number.checked_sub(1).and_then(|index| self.starts.get(index)) else {
            return "";
        };
        self.text.get(*start..).and_then(|rest| rest.lines().next()).unwrap_or("")
    }

    /// Returns how many lines the file has.
    pub fn lines(&self) -> usize {
        self.starts.len()
    }
}

struct Reader {
    history: History,
    attempts: HashMap<String, usize>,
    answers: Vec<(usize, Ret)>,
}

impl Reader {
    fn read(&mut self, row: &str, line: usize) -> Result<(), String> {
        let head: Head = parse(row)?;
        let Some(kind) = head.e else {
            return match head.format {
                Some(1) => Ok(()),
                Some(other) => Err(format!("format {other} is not known, only format 1")),
                None => Err("no field `e` says what the line is".to_owned()),
            };
        };
        let history = &mut self.history;
        match kind.as_str() {
            "inv" => {
                let inv: Inv = parse(row)?;
                if self.attempts.insert(inv.id.clone(), history.attempts.len()).is_some() {
                    return Err(format!("a second `inv` with id {}", inv.id));
                }
                history.attempts.push(Attempt { inv, inv_line: line, ret: None, ret_line: 0 });
            }
            "ret" => self.answers.push((line, parse(row)?)),
            "entry" => history.entries.push(Entry { line, ..parse(row)? }),
            "shard" => history.shards.push(ShardEnd { line, ..parse(row)? }),
            "anchor" => history.anchors.push(parse(row)?),
            "open" => history.opens.push(parse(row)?),
            "nem" => history.faults.push(Fault { line, ..parse(row)? }),
            "end" => history.end = Some(parse(row)?),
            other => return Err(format!("no event is called `{other}`")),
        }
        Ok(())
    }

    /// Joins answers to attempts; lines may stand in any order, so this waits for the last one.
    fn joined(self) -> History {
        let Self { mut history, attempts, answers } = self;
        for (line, ret) in answers {
            let attempt = attempts.get(&ret.id).and_then(|index| history.attempts.get_mut(*index));
            let why = match attempt {
                None => format!("an answer to {}, which nobody asked", ret.id),
                Some(attempt) if attempt.ret.is_some() => format!("a second answer to {}", ret.id),
                Some(attempt) if ret.t < attempt.inv.t => {
                    format!("the answer to {} comes before its question", ret.id)
                }
                Some(attempt) => {
                    attempt.ret = Some(ret);
                    attempt.ret_line = line;
                    continue;
                }
            };
            history.malformed.push(Malformed { line, why });
        }
        history.malformed.sort_by_key(|malformed| malformed.line);
        history.faults.sort_by_key(|fault| fault.t);
        history
    }
}

fn parse<T: DeserializeOwned>(row: &str) -> Result<T, String> {
    serde_json::from_str(row).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lines_are_named_with_their_number_and_the_rest_is_read() {
        let history = History::parse(concat!(
            "{\"format\":1}\n",
            "\n",
            "{\"e\":\"inv\",\"t\":1,\"id\":7,\"c\":\"a\",\"op\":\"read\",\"new_field\":[1]}\n",
            "not json\n",
            "{\"e\":\"ret\",\"t\":2,\"id\":\"7\",\"out\":\"maybe\"}\n",
            "{\"e\":\"ret\",\"t\":2,\"id\":\"7\",\"out\":\"ok\"}\n",
            "{\"e\":\"ret\",\"t\":3,\"id\":\"7\",\"out\":\"ok\"}\n",
            "{\"e\":\"ret\",\"t\":3,\"id\":\"8\",\"out\":\"ok\"}\n",
            "{\"e\":\"rte\"}\n",
            "{\"format\":2}\n",
            "{\"t\":2}\n",
        ));
        let lines: Vec<usize> = history.malformed.iter().map(|malformed| malformed.line).collect();
        assert_eq!(lines, [4, 5, 7, 8, 9, 10, 11]);
        assert_eq!(
            history.attempts[0].out(),
            Out::Ok,
            "an id may be a number in one line and text in another"
        );
        assert!(history.line(3).contains("new_field"));
        assert_eq!(history.line(99), "");
    }

    #[test]
    fn an_answer_that_precedes_its_question_is_malformed() {
        let history = History::parse(
            "{\"e\":\"ret\",\"t\":1,\"id\":1,\"out\":\"ok\"}\n{\"e\":\"inv\",\"t\":2,\"id\":1,\"op\":\"cmd\"}",
        );
        assert_eq!(history.malformed.len(), 1);
        assert_eq!(history.attempts[0].out(), Out::Unknown);
    }
}
