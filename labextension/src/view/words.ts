/** The texts of a row. */
import type { IconName } from './icons';
import type { IHolder, IOldVersion, IRow, ITranslate, Mode } from './types';

/** A short number of elements: `1M`. */
function dimensionText(n: number): string {
  return n >= 1e6 && n % 1e6 === 0 ? `${n / 1e6}M` : String(n);
}

/** A short type: `float64 1M×1000`. */
export function typeText(row: IRow): string {
  return row.dtype && row.shape.length
    ? `${row.dtype} ${row.shape.map(dimensionText).join('×')}`
    : row.summary;
}

export function kindIcon(row: IRow): IconName {
  if (row.kind === 'array' || row.kind === 'table') {
    return row.kind;
  }
  return /^(function|class)\b/.test(row.summary) ? 'function' : 'object';
}

export interface IMark {
  text: string;
  title: string;
  /** Whether it is a warning. */
  strong: boolean;
  /** Whether it stands beside the name. */
  live: boolean;
}

/** What is unusual about a row. A row whose release is pending looks released. */
export function marksOf(row: IRow, trans: ITranslate, isReleasing = false): IMark[] {
  const marks: IMark[] = [];
  const mark = (applies: boolean, text: string, title: string, strong = false, live = false) => {
    if (applies) {
      marks.push({ text, title, strong, live });
    }
  };
  mark(
    row.writable,
    trans.__('LIVE'),
    trans.__('Others may write to it, so it may change at any time'),
    true,
    true
  );
  mark(
    row.onlyCopy,
    trans.__('only copy'),
    trans.__('Nobody holds it and its publisher has ended: a release loses the data'),
    true
  );
  mark(row.keep, trans.__('kept'), trans.__('It outlives the session'));
  mark(row.overflow, trans.__('on disk'), trans.__('On disk, because shared memory was full'));
  mark(
    row.state === 'released' || isReleasing,
    trans.__('released'),
    trans.__('Its memory is freed when the last holder lets go')
  );
  return marks;
}

export function modeText(mode: Mode, trans: ITranslate): string {
  const texts: Record<Mode, string> = {
    r: trans.__('read-only'),
    c: trans.__('copy on write'),
    'r+': trans.__('writable')
  };
  return texts[mode];
}

/** A notebook that holds a version of a row. */
export interface IUse {
  holder: IHolder;
  version: number;
  count: number;
  /** The version if it is not the newest one: it explains where memory went. */
  old: IOldVersion | null;
}

export function usesOf(row: IRow): IUse[] {
  const uses = new Map<string, IUse>();
  const add = (holder: IHolder, version: number, old: IOldVersion | null) => {
    const key = JSON.stringify([version, holder.label, holder.path, holder.here, holder.mode]);
    const use = uses.get(key);
    if (use) {
      use.count++;
    } else {
      uses.set(key, { holder, version, count: 1, old });
    }
  };
  row.holders.forEach(holder => add(holder, row.version, null));
  row.older.forEach(old => old.holders.forEach(holder => add(holder, old.version, old)));
  return [...uses.values()];
}

/** The holders of all versions of a row. */
export function holdersOf(row: IRow): IHolder[] {
  return [...row.holders, ...row.older.flatMap(old => old.holders)];
}

/** The names of holders, each once. */
export function labelsOf(holders: readonly IHolder[], trans: ITranslate): string[] {
  return [...new Set(holders.map(each => (each.here ? trans.__('this notebook') : each.label)))];
}
