import type { IViewState } from './types';

/** What the list looks like to somebody who never chose anything. */
export const defaultState: IViewState = {
  sort: 'name',
  descending: false,
  grouped: true,
  collapsed: []
};
