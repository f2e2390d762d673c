// The paper's decoding (§6.1) for an exported model: beam search, GNMT's length penalty, a limit by the length of the
// source, and the three ways in which transformers stops; with one beam, greedy search. transformers.js itself has
// greedy search and sampling only.

/**
 * Search for translations of one sentence.
 *
 * @param {object} steps `first(ids)` and `next(tokens, rows)` return {logits, vocabulary, attention(row)}: the logits of
 *     all rows one after the other, and the attention of a row to the source. `rows` says from which row each goes on.
 * @param {number[]} ids of the source, with `</s>`.
 * @param {object} settings {beams, alpha, isGnmt, earlyStopping, limit, start, end}; earlyStopping is true,
 *     false or "never"
 * @param {(running: object[], finished: object[]) => Promise<void>} [onStep] sees the hypotheses after each step.
 * @returns {Promise<object[]>} finished hypotheses {tokens, logProbability, score, attention}, best first.
 */
export async function beamSearch(steps, ids, settings, onStep) {
  const { beams, alpha, isGnmt, earlyStopping, limit, start, end } = settings;
  const penalty = (length) => (isGnmt ? (5 + length) / 6 : length) ** alpha;
  let running = [{ tokens: [], logProbability: 0, attention: [] }];
  let finished = [];
  let output = await steps.first(ids, start);
  for (let length = 1; length <= limit; length++) {
    const next = [];
    candidatesOf(running, output, 2 * beams).forEach((candidate, place) => {
      const parent = running[candidate.row];
      const grown = {
        tokens: [...parent.tokens, candidate.id],
        logProbability: candidate.logProbability,
        attention: [...parent.attention, output.attention(candidate.row)],
        row: candidate.row,
      };
      if (candidate.id === end || length === limit) {
        // Only one of the best beams may end; the others make room for those that go on.
        if (place < beams) finished.push({ ...grown, score: grown.logProbability / penalty(length) });
      } else if (next.length < beams) next.push(grown);
    });
    finished = finished.sort((a, b) => b.score - a.score).slice(0, beams);
    const isOver = !next.length || (beams === 1 && finished.length > 0);
    if (onStep) await onStep(isOver ? [] : next, finished);
    if (isOver) break;
    // The best that a beam can still reach: at its longest, or, as transformers estimates it, as long as it is now.
    const best = next[0].logProbability / penalty(earlyStopping === 'never' && alpha > 0 ? limit : length);
    if (finished.length === beams && (earlyStopping === true || best <= finished.at(-1).score)) break;
    output = await steps.next(next.map((each) => each.tokens.at(-1)), next.map((each) => each.row));
    running = next;
  }
  return finished;
}

/** The best continuations of all hypotheses, best first. */
function candidatesOf(running, { logits, vocabulary }, count) {
  const found = running.flatMap((hypothesis, row) =>
    mostProbable(logits.subarray(row * vocabulary, (row + 1) * vocabulary), count).map(([value, id]) => ({
      row, id, logProbability: hypothesis.logProbability + value,
    })));
  return found.sort((a, b) => b.logProbability - a.logProbability).slice(0, count);
}

/** The highest log-probabilities of one row of logits, each with its id, highest first. */
function mostProbable(logits, count) {
  let highest = -Infinity;
  for (const value of logits) if (value > highest) highest = value;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - highest);
  const normalizer = highest + Math.log(sum);
  const kept = [];  // a short sorted list
  for (let id = 0; id < logits.length; id++) {
    if (kept.length === count && logits[id] <= kept[count - 1][0]) continue;
    let place = kept.length;
    while (place > 0 && kept[place - 1][0] < logits[id]) place--;
    kept.splice(place, 0, [logits[id], id]);
    if (kept.length > count) kept.pop();
  }
  return kept.map(([value, id]) => [value - normalizer, id]);
}

/**
 * The most tokens of a translation, as `generate` counts them.
 *
 * @param {number[]} ids of the source, with `</s>`.
 * @param {object} facts vanilla_transformer.json: the original model's settings, and the positions that it has.
 */
export function limitOf(ids, { generation_config: settings, max_positions: positions }) {
  const { source_length_offset: offset, longest_source: longest, max_length: most } = settings;
  // Positions, and the settings that count so, have the start token too; 20 is transformers' own.
  const limit = offset == null ? (most ?? 20) - 1 : Math.min(ids.length, Math.max(512, longest ?? 0)) + offset;
  if (limit < 1) throw new RangeError('The settings of the model leave no token to a translation.');
  return Math.min(limit, (positions ?? Infinity) - 1);
}
