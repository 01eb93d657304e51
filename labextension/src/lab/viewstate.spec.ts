import { describe, expect, it, vi } from 'vitest';
import type { IStateDB } from '@jupyterlab/statedb';
import { defaultState } from '../view';
import { parseViewState, ViewStateKeeper } from './viewstate';

describe('the saved view', () => {
  it('is loaded', async () => {
    const kept = { sort: 'size', descending: true, grouped: false, collapsed: ['a'] } as const;
    const database = { fetch: () => Promise.resolve(kept), save: vi.fn(() => Promise.resolve()) };
    const keeper = new ViewStateKeeper(database as unknown as IStateDB);
    expect(await keeper.load()).toEqual(kept);
    keeper.save(defaultState);
    expect(database.save).toHaveBeenCalledWith('jshm:view', defaultState);
  });

  it.each([[undefined], [null], ['x'], [[]], [{ sort: 'smell', collapsed: 'all' }]])(
    'is the default where it is %j',
    raw => {
      expect(parseViewState(raw)).toEqual(defaultState);
    }
  );

  it('is the default without a database, or with one that fails', async () => {
    const failing = { fetch: () => Promise.reject(new Error('no')) } as unknown as IStateDB;
    expect(await new ViewStateKeeper(null).load()).toEqual(defaultState);
    expect(await new ViewStateKeeper(failing).load()).toEqual(defaultState);
  });
});
