import type { ITranslate } from './types';

function fill(text: string, args: unknown[]): string {
  return text.replace(/%(\d+)/g, (whole, digits: string) => {
    const index = Number(digits) - 1;
    return index >= 0 && index < args.length ? String(args[index]) : whole;
  });
}

/** The English texts, for surroundings without translations. */
export const nullTranslator: ITranslate = {
  __: (msgid, ...args) => fill(msgid, args),
  _n: (singular, plural, n, ...args) => fill(n === 1 ? singular : plural, [n, ...args])
};
