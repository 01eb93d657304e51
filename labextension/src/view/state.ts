import type { IViewState, SortKey } from './types';

/** What the list looks like to somebody who never chose anything. */
export const defaultState: IViewState = {
  sort: 'name',
  descending: false,
  grouped: true,
  collapsed: []
};

/** A new order: the largest, and what most hold, come first. */
export function sortedBy(sort: SortKey): Pick<IViewState, 'sort' | 'descending'> {
  return { sort, descending: sort === 'size' || sort === 'holders' };
}
