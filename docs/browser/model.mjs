// The exported model and its tokenizer: what transformers.js loads, as the search wants it.
import { beamSearch, limitOf } from './beam.mjs';

const MOST_TOKENS = 256;  // of a text: more would take minutes on a phone
// Values by which `generate` does nothing.
export const NEUTRAL = {
  repetition_penalty: 1, encoder_repetition_penalty: 1, temperature: 1, top_k: 50, top_p: 1, typical_p: 1,
  epsilon_cutoff: 0, eta_cutoff: 0, min_length: 0, min_new_tokens: 0, no_repeat_ngram_size: 0,
  encoder_no_repeat_ngram_size: 0, num_beam_groups: 1, diversity_penalty: 0,
};
// Settings of a model that the search goes by, or that say nothing to it: any other that is set is refused.
const HANDLED = new Set(['num_beams', 'length_penalty', 'length_penalty_type', 'source_length_offset', 'longest_source',
  'max_length', 'bos_token_id', 'pad_token_id', 'eos_token_id', 'decoder_start_token_id', 'transformers_version',
  'split_sentences', 'protect_copies', 'protect_names', 'restore_case', 'alignment_heads', 'use_cache', 'decoder_only',
  'beam_settings', 'num_return_sequences', 'early_stopping']);

/** Steps of `beamSearch` over a model of transformers.js; `Tensor` is the library's. */
export class Steps {
  constructor(model, Tensor) {
    Object.assign(this, { model, Tensor });
  }

  async first(ids, start) {
    this.ids = ids;
    this.source = this.integers(ids.map(() => 1), [1, ids.length]);
    this.past = null;
    return this.run({ input_ids: this.integers(ids, [1, ids.length]) }, [start]);
  }

  async next(tokens, rows) {
    const isSame = rows.length === this.rows && rows.every((row, place) => row === place);
    if (!isSame)
      for (const name in this.past)
        // All hypotheses share the source: its keys and values move only when there are more or fewer rows.
        if (!name.includes('encoder') || rows.length !== this.rows) this.past[name] = this.gather(this.past[name], rows);
    // The source's states are not read any more, since its keys and values are in the cache: their shape is.
    const shape = [rows.length, this.ids.length, this.model.config.d_model];
    const states = new this.Tensor('float32', new Float32Array(shape[0] * shape[1] * shape[2]), shape);
    return this.run({ encoder_outputs: states, past_key_values: this.past }, tokens);
  }

  async run(inputs, tokens) {
    this.rows = tokens.length;
    const outputs = await this.model.forward({
      ...inputs,
      attention_mask: this.gather(this.source, tokens.map(() => 0)),
      decoder_input_ids: this.integers(tokens, [tokens.length, 1]),
    });
    const past = {};
    for (const name in outputs) {
      if (!name.startsWith('present')) continue;
      const kept = name.replace('present', 'past_key_values');
      past[kept] = name.includes('encoder') && this.past ? this.past[kept] : outputs[name];
    }
    this.past = past;
    const layers = Object.keys(outputs).filter((name) => name.startsWith('cross_attentions.'))
      .sort((a, b) => a.split('.')[1] - b.split('.')[1]).map((name) => outputs[name]);
    return {
      logits: outputs.logits.data,
      vocabulary: outputs.logits.dims.at(-1),
      // Layers by heads by source tokens.
      attention: (row) => layers.map(({ data, dims: [, heads, , length] }) => Array.from({ length: heads }, (_, head) =>
        data.slice((row * heads + head) * length, (row * heads + head + 1) * length))),
    };
  }

  integers(values, dims) {
    return new this.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
  }

  /** Rows of a tensor's first dimension. */
  gather(tensor, rows) {
    const size = tensor.data.length / tensor.dims[0];
    const data = new tensor.data.constructor(size * rows.length);
    rows.forEach((row, place) => data.set(tensor.data.subarray(row * size, (row + 1) * size), place * size));
    return new this.Tensor(tensor.type, data, [rows.length, ...tensor.dims.slice(1)]);
  }
}

/**
 * A tokenizer that reads special tokens in a text, such as "</s>", as text.
 *
 * @param {object} library transformers.js
 * @param {object} files tokenizer.json and tokenizer_config.json
 */
export function textTokenizer({ PreTrainedTokenizer }, { tokenizer, config }) {
  return new PreTrainedTokenizer({ ...tokenizer, added_tokens: [], post_processor: null }, config);
}

/** The English name of a language; a code that is none of BCP 47 as it is. */
export function languageName(code) {
  try {
    return new Intl.DisplayNames('en', { type: 'language' }).of(code);
  } catch {
    return code;
  }
}

/** Refuse a model that decodes by settings which the page's search lacks. */
export function checkSettings(settings) {
  for (const [name, value] of Object.entries(settings)) {
    const isEmpty = Array.isArray(value) && !value.length;
    const isSaid = value !== null && value !== false && value !== NEUTRAL[name] && !isEmpty;
    // Beside a limit by the length of the source this one has no effect.
    if (name === 'max_new_tokens' && settings.source_length_offset != null) continue;
    if (isSaid && !HANDLED.has(name) && !name.startsWith('_'))
      throw new Error(`the page has no \`${name}\`, which is ${JSON.stringify(value)}`);
  }
  const { early_stopping: stop, length_penalty_type: penalty } = settings;
  if (!['gnmt', 'power'].includes(penalty ?? 'power'))
    throw new Error(`the page has no \`length_penalty_type\` but "gnmt" and "power", and it is ${JSON.stringify(penalty)}`);
  if (![true, false, 'never'].includes(stop ?? false))
    throw new Error(`the page has no \`early_stopping\` but true, false and "never", and it is ${JSON.stringify(stop)}`);
}

/**
 * Translate one sentence as the original model does.
 *
 * @param {object} loaded {facts, model, Tensor, reader}: vanilla_transformer.json, what transformers.js loads, and the
 *     tokenizer that reads special tokens as text.
 * @param {string} text
 * @param {(ids: number[], running: object[], finished: object[]) => Promise<void>} [onStep] sees each step.
 * @returns {Promise<{ids: number[], finished: object[]}>} the source's tokens, and translations, best first.
 */
export async function translateWith({ facts, model, Tensor, reader }, text, onStep) {
  const { config, generation_config: settings } = facts;
  const ids = [...reader.encode(text.trim().normalize('NFC'), { add_special_tokens: false }).map(Number), config.eos_token_id];
  const most = Math.min(MOST_TOKENS, facts.max_positions ?? Infinity);
  if (ids.length > most)
    throw new RangeError(`The text has ${ids.length.toLocaleString('en')} tokens, and this page takes at most ${most}. Shorten it.`);
  const finished = await beamSearch(new Steps(model, Tensor), ids, {
    beams: settings.num_beams ?? 1,
    alpha: settings.length_penalty ?? 1,
    isGnmt: settings.length_penalty_type === 'gnmt',
    earlyStopping: settings.early_stopping ?? false,
    limit: limitOf(ids, facts),
    start: config.decoder_start_token_id,
    end: config.eos_token_id,
  }, onStep && ((running, done) => onStep(ids, running, done)));
  return { ids, finished };
}
