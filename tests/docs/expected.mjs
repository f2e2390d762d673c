// What Python's search over the same graphs finds, beside what JavaScript's finds.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

/** Lines of {source, translations}, as `translate --output_format jsonl` wrote them for a model of the page's folder. */
export const readExpected = (page_folder, model) =>
  fs.readFileSync(path.join(page_folder, `${model}.jsonl`), 'utf8').trim().split('\n').map((line) => JSON.parse(line));

/**
 * Compare n-best lists. Those of float32 are equal. In int8 each product rounds by the largest number in it, and by
 * kernels that differ between machines: hypotheses that are nearly as good as each other change places there.
 */
export function checkBeams(expected, found, name) {
  const texts = expected.map(({ translations }) => translations.map((each) => each.translation_text));
  const same = texts.filter((list, place) => JSON.stringify(list) === JSON.stringify(found[place])).length;
  const best = texts.filter((list, place) => list[0] === found[place][0]).length;
  console.log(`${name}: lists of all beams equal: ${same} of ${texts.length}; best translations equal: ${best}`);
  assert.ok(same >= (name.startsWith('float32') ? 1 : 0.9) * texts.length && best >= 0.98 * texts.length);
}
