// The page's search under node: `node tests/docs/node.mjs PAGE`, as `make test-browser` runs it. PAGE is the folder that
// `make browser` fills, with the float32 model besides.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { textTokenizer, translateWith } from '../../docs/browser/model.mjs';
import { checkBeams, readExpected } from './expected.mjs';

const page_folder = path.resolve(process.argv[2]);
const library = createRequire(path.join(page_folder, 'package.json'))('@huggingface/transformers');
const { AutoModelForSeq2SeqLM, AutoTokenizer, Tensor, env } = library;
Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: page_folder });

for (const [folder, dtype] of [['site/model', 'q8'], ['float32', 'fp32']]) {
  const read = (name) => JSON.parse(fs.readFileSync(path.join(page_folder, folder, name), 'utf8'));
  const loaded = {
    facts: read('vanilla_transformer.json'),
    model: await AutoModelForSeq2SeqLM.from_pretrained(folder, { dtype }),
    Tensor,
    reader: textTokenizer(library, { tokenizer: read('tokenizer.json'), config: read('tokenizer_config.json') }),
  };
  const writer = await AutoTokenizer.from_pretrained(folder);
  const expected = readExpected(page_folder, path.basename(folder)), found = [];
  for (const { source } of expected) {
    const { finished } = await translateWith(loaded, source);
    found.push(finished.map(({ tokens }) => writer.decode(tokens, { skip_special_tokens: true })));
  }
  checkBeams(expected, found, `${path.basename(folder)}, under node`);
}
