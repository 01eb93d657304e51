/** Texts of sizes and ages, as in `jshm/text.py`, so that panel, magics and command line agree. */
import { nullTranslator } from './translate';
import type { ITranslate } from './types';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** A number with no or one decimal. Halves are rounded to even, as in Python. */
function fixed(value: number, digits: 0 | 1): string {
  const scale = digits === 0 ? 1 : 10;
  const halves = value * (digits === 0 ? 2 : 4);
  if (Number.isInteger(halves) && halves % 2 !== 0) {
    const below = Math.floor(value * scale);
    return ((below % 2 === 0 ? below : below + 1) / scale).toFixed(digits);
  }
  return value.toFixed(digits);
}

/** The text of a size, in powers of 1000: `8.0 MB`. */
export function sizeText(nbytes: number): string {
  let size = nbytes;
  let unit = 0;
  // 999.95 would read 1000.0.
  while (Math.abs(size) >= 999.95 && unit < UNITS.length - 1) {
    size /= 1000;
    unit++;
  }
  return unit === 0 ? `${nbytes} B` : `${fixed(size, 1)} ${UNITS[unit]}`;
}

/** The text of the age of a time in seconds since the epoch: `2 min ago`. */
export function ageText(
  created: number,
  trans: ITranslate = nullTranslator,
  now = Date.now() / 1000
): string {
  const elapsed = now - created;
  if (elapsed < 1) {
    return trans.__('just now');
  }
  const seconds = Number(fixed(elapsed, 0));
  if (seconds < 10) {
    return trans.__('%1 s ago', fixed(seconds, 1));
  }
  if (seconds < 120) {
    return trans.__('%1 s ago', fixed(seconds, 0));
  }
  if (seconds < 7200) {
    return trans.__('%1 min ago', fixed(seconds / 60, 0));
  }
  if (seconds < 172800) {
    return trans.__('%1 h ago', fixed(seconds / 3600, 0));
  }
  return trans.__('%1 days ago', fixed(seconds / 86400, 0));
}

/** The text of a count: `1,000,000`. */
export function countText(n: number): string {
  return n.toLocaleString('en');
}

/** A short text of a number in a statistic or at an axis. */
export function numberText(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e6) {
    return String(value);
  }
  return String(Number(value.toPrecision(4)));
}
