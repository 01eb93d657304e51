/**
 * Reads what a server answers into what the view shows.
 *
 * A server of another version may leave something out or add something: what is missing or of another
 * type reads as empty, so that nothing of it can blank the panel.
 */
import type {
  IDetails,
  IGroup,
  IHolder,
  INotice,
  IOldVersion,
  IPage,
  IReleased,
  IRow,
  IStats,
  ISummary,
  IWho,
  Preview
} from '../view';

type Reader<T> = (raw: unknown) => T;
type Fields<T> = { [K in keyof T]-?: Reader<T[K]> };

export const text: Reader<string> = raw => (typeof raw === 'string' ? raw : '');
const number: Reader<number> = raw => (typeof raw === 'number' ? raw : 0);
const numberOrNull: Reader<number | null> = raw => (typeof raw === 'number' ? raw : null);
const flag: Reader<boolean> = raw => raw === true;

export function isObject(raw: unknown): raw is Record<string, unknown> {
  return typeof raw === 'object' && raw !== null && !Array.isArray(raw);
}

export function list<T>(item: Reader<T>): Reader<T[]> {
  return raw => (Array.isArray(raw) ? raw.map(item) : []);
}

function record<T>(value: Reader<T>): Reader<Record<string, T>> {
  return raw =>
    isObject(raw)
      ? Object.fromEntries(Object.entries(raw).map(([key, item]) => [key, value(item)]))
      : {};
}

/** One of some words; the first stands for what is not known here. */
function word<T extends string>(...words: [T, ...T[]]): Reader<T> {
  return raw => words.find(known => known === raw) ?? words[0];
}

function object<T>(fields: Fields<T>): Reader<T> {
  const readers = Object.entries(fields) as [keyof T & string, Reader<T[keyof T]>][];
  return raw => {
    const given = isObject(raw) ? raw : {};
    return Object.fromEntries(readers.map(([key, read]) => [key, read(given[key])])) as T;
  };
}

function orNull<T>(read: Reader<T>): Reader<T | null> {
  return raw => (isObject(raw) ? read(raw) : null);
}

const whoFields: Fields<IWho> = { label: text, path: text, alive: flag, here: flag };
const who = object<IWho>(whoFields);

const holder = object<IHolder>({ ...whoFields, mode: word('r', 'r+', 'c'), pid: number });

const oldVersion = object<IOldVersion>({
  version: number,
  nbytes: number,
  summary: text,
  holders: list(holder)
});

const rowFields: Fields<IRow> = {
  name: text,
  version: number,
  state: word('current', 'released'),
  kind: text,
  summary: text,
  dtype: text,
  shape: list(number),
  nbytes: number,
  publisher: who,
  group: text,
  created: number,
  note: text,
  keep: flag,
  writable: flag,
  overflow: flag,
  onlyCopy: flag,
  keeps: number,
  lifetime: word('process', 'run', 'server', 'kept'),
  holders: list(holder),
  older: list(oldVersion)
};

export const summary = object<ISummary>({
  where: text,
  names: number,
  used: number,
  inUse: number,
  old: number,
  unnamed: number,
  restorable: number,
  idle: number,
  idleNames: number,
  spares: number,
  free: number,
  capacity: number,
  leftovers: number,
  overflow: number,
  notices: list(object<INotice>({ level: word('info', 'warning', 'error'), text })),
  undoLimit: number
});

export const page = object<IPage>({
  state: text,
  total: number,
  offset: number,
  rows: list(object<IRow>(rowFields)),
  groups: list(object<IGroup>({ id: text, publisher: who, count: number, nbytes: number })),
  summary
});

export const details = object<IDetails>({
  ...rowFields,
  order: word('C', 'F'),
  doc: text,
  place: text,
  python: text,
  modules: record(text),
  shared: number,
  copied: number,
  columns: list(text),
  references: record(number),
  together: list(text)
});

export const released = object<IReleased>({
  name: text,
  nbytes: number,
  freed: number,
  heldBy: list(text),
  neededBy: list(text),
  undoable: flag
});

const stats = object<IStats>({
  min: numberOrNull,
  max: numberOrNull,
  mean: numberOrNull,
  nan: number,
  count: number,
  total: number,
  exact: flag,
  infinite: raw => (typeof raw === 'number' ? raw : undefined),
  of: raw => (raw === 'magnitude' ? raw : undefined)
});

const histogram = object<{ counts: number[]; low: number; high: number }>({
  counts: list(number),
  low: number,
  high: number
});

type Kind = Preview['type'];
type Only<K extends Kind> = Omit<Extract<Preview, { type: K }>, 'type' | 'stats'>;

const pictures: { [K in Kind]: Reader<Only<K>> } = {
  line: object<Only<'line'>>({
    low: list(numberOrNull),
    high: list(numberOrNull),
    histogram: orNull(histogram)
  }),
  heatmap: object<Only<'heatmap'>>({
    width: number,
    height: number,
    data: text,
    low: number,
    high: number,
    slice: text
  }),
  image: object<Only<'image'>>({ width: number, height: number, data: text, slice: text }),
  table: object<Only<'table'>>({ columns: list(text), rows: list(list(text)), total: number }),
  source: object<Only<'source'>>({ text, truncated: flag }),
  text: object<Only<'text'>>({ text, truncated: flag }),
  none: object<Only<'none'>>({ text })
};

/** A preview; of a sort that is not known here, what `unknown` says. */
export function preview(unknown: string): Reader<Preview> {
  return raw => {
    const given = isObject(raw) ? raw : {};
    const type = text(given.type) as Kind;
    if (!Object.prototype.hasOwnProperty.call(pictures, type)) {
      return { type: 'none', text: unknown, stats: orNull(stats)(given.stats) };
    }
    return { type, ...pictures[type](given), stats: orNull(stats)(given.stats) } as Preview;
  };
}
