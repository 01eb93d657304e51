import type { IViewState, SortKey } from './types';

/** The state before the user chooses anything. */
export const defaultState: IViewState = {
  sort: 'name',
  descending: false,
  grouped: true,
  collapsed: []
};

/** A new order: the largest size and the most holders come first. */
export function sortedBy(sort: SortKey): Pick<IViewState, 'sort' | 'descending'> {
  return { sort, descending: sort === 'size' || sort === 'holders' };
}
