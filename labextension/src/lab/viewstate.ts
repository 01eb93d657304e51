import type { IStateDB } from '@jupyterlab/statedb';
import { defaultState, type IViewState, type SortKey } from '../view';

const KEY = 'jshm:view';
const SORTS: readonly SortKey[] = ['name', 'size', 'age', 'type', 'holders'];

/** The valid part of a saved state. */
export function parseViewState(raw: unknown): IViewState {
  const kept = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
  const flag = (value: unknown, otherwise: boolean) =>
    typeof value === 'boolean' ? value : otherwise;
  return {
    sort: SORTS.find(sort => sort === kept.sort) ?? defaultState.sort,
    descending: flag(kept.descending, defaultState.descending),
    grouped: flag(kept.grouped, defaultState.grouped),
    collapsed: Array.isArray(kept.collapsed)
      ? kept.collapsed.filter((id): id is string => typeof id === 'string')
      : defaultState.collapsed
  };
}

/** Saves sorting and grouping, so that they survive a reload if there is a database. */
export class ViewStateKeeper {
  constructor(database: IStateDB | null) {
    this._database = database;
  }

  async load(): Promise<IViewState> {
    // A state that cannot be read is replaced by the default.
    return parseViewState(await this._database?.fetch(KEY).catch(() => undefined));
  }

  save(state: IViewState): void {
    void this._database?.save(KEY, { ...state }).catch(() => undefined);
  }

  private readonly _database: IStateDB | null;
}
