//! Cycles of a graph: the one algorithm that more than one family of checks needs.
//!
//! Deliberately absent: everything else about graphs.
//!
//! Invariant: linear in nodes and edges, and no recursion, because a definition decides how large the graph is.

/// Returns the members of each cycle, sorted: components in which everything leads to everything.
///
/// `edges[n]` lists where node `n` leads.
pub(super) fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let order = finished(edges, 0..edges.len());
    let mut backwards: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for to in targets {
            if let Some(list) = backwards.get_mut(*to) {
                list.push(from);
            }
        }
    }
    let mut seen = vec![false; edges.len()];
    let mut found = Vec::new();
    for start in order.into_iter().rev() {
        let mut members = reach(&backwards, start, &mut seen);
        members.sort_unstable();
        let leads_to_itself = edges.get(start).is_some_and(|targets| targets.contains(&start));
        if members.len() > 1 || (members.len() == 1 && leads_to_itself) {
            found.push(members);
        }
    }
    found.sort();
    found
}

/// Returns the nodes in the order in which a depth-first walk leaves them.
fn finished(edges: &[Vec<usize>], starts: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut seen = vec![false; edges.len()];
    let mut order = Vec::with_capacity(edges.len());
    for start in starts {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if mark(&mut seen, start) {
            path.push((start, 0));
        }
        while let Some((node, next)) = path.last_mut() {
            let target = edges.get(*node).and_then(|targets| targets.get(*next)).copied();
            *next += 1;
            match target {
                Some(target) if mark(&mut seen, target) => path.push((target, 0)),
                Some(_) => {}
                None => {
                    order.push(*node);
                    path.pop();
                }
            }
        }
    }
    order
}

fn reach(edges: &[Vec<usize>], start: usize, seen: &mut [bool]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        if mark(seen, node) {
            found.push(node);
            open.extend(edges.get(node).into_iter().flatten());
        }
    }
    found
}

/// Marks a node; returns whether it was not marked before.
fn mark(seen: &mut [bool], node: usize) -> bool {
    seen.get_mut(node).is_some_and(|seen| !std::mem::replace(seen, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_found_and_lines_are_not() {
        let edges = vec![vec![1], vec![2, 4], vec![0, 3], vec![3], vec![5], vec![]];
        assert_eq!(cycles(&edges), [vec![0, 1, 2], vec![3]]);
    }
}
