/** The code that attaches a name, to insert, drag and copy. */
import type { Mode } from './types';

const KEYWORDS = new Set(
  (
    'False None True and as assert async await break class continue def del elif else except ' +
    'finally for from global if import in is lambda nonlocal not or pass raise return try while ' +
    'with yield'
  ).split(' ')
);

const IDENTIFIER = /^[\p{XID_Start}_]\p{XID_Continue}*$/u;
/** Characters that are invisible, or shown at another place. They are written as escapes. */
const INVISIBLE = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
/** Characters that IPython interprets in the line of a magic, or that end the line. */
const NOT_FOR_MAGICS = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}${}]/u;

/** Whether a text, in Python's spelling, can be the name of a variable. */
export function isVariable(text: string): boolean {
  return IDENTIFIER.test(text) && !KEYWORDS.has(text);
}

function lastComponent(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1).normalize('NFKC');
}

/** The variable for a name: its last component or a similar word, as `variable_for` in Python. */
export function variableFor(name: string): string {
  const last = lastComponent(name);
  if (isVariable(last)) {
    return last;
  }
  const replaced = Array.from(last, c => (IDENTIFIER.test(`_${c}`) ? c : '_')).join('');
  return isVariable(replaced) ? replaced : `my_${replaced}`;
}

/** A string as a Python literal. JSON's escapes mean the same in Python. */
export function pythonString(text: string): string {
  return JSON.stringify(text).replace(
    INVISIBLE,
    c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
  );
}

export function shellWord(text: string): string {
  return /^[\p{L}\p{N}\p{M}_./][\p{L}\p{N}\p{M}_./-]*$/u.test(text)
    ? text
    : `'${text.replace(/'/g, `'"'"'`)}'`;
}

/** The code that attaches `name`: in Python, or as a magic. */
export function attachCode(name: string, magic: boolean, mode: Mode = 'r'): string {
  const variable = variableFor(name);
  if (!magic || NOT_FOR_MAGICS.test(name)) {
    const how = mode === 'r' ? '' : `, mode="${mode}"`;
    return `import jshm\n${variable} = jshm.attach(${pythonString(name)}${how})`;
  }
  const as = variable === lastComponent(name) ? '' : ` --as ${variable}`;
  const how = mode === 'r' ? '' : ` --mode ${mode}`;
  return `%shm_attach ${shellWord(name)}${as}${how}`;
}
