import * as React from 'react';

/** Shorter names are cut at their end, if they must be. */
const SHORT = 16;
const TAIL = 8;
/** Text with right-to-left characters or marks cannot be cut into two parts. */
const RIGHT_TO_LEFT =
  /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff]/;
const CONTINUES = /^[\p{M}\u200d]/u;

/** The two parts of a name. Only the first part is cut if space is short. */
export function splitName(name: string): [string, string] {
  const characters = Array.from(name);
  if (characters.length <= SHORT || RIGHT_TO_LEFT.test(name)) {
    return [name, ''];
  }
  let cut = characters.length - TAIL;
  while (cut > 0 && CONTINUES.test(characters[cut])) {
    cut--;
  }
  return [characters.slice(0, cut).join(''), characters.slice(cut).join('')];
}

/** A name that is cut in its middle if space is short, because names often differ at the end. */
export function Name({ text }: { text: string }): React.JSX.Element {
  const [head, tail] = splitName(text);
  return (
    <bdi className="jshm-name" title={text}>
      <span className="jshm-name-head">{head}</span>
      {tail && <span className="jshm-name-tail">{tail}</span>}
    </bdi>
  );
}
