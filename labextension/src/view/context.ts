import * as React from 'react';
import { nullTranslator } from './translate';
import type { IHost, IReleasable, IRemedy, IRow, ITranslate, Mode } from './types';

/** What the user can do. */
export interface IActions {
  insert(row: IRow): void;
  attach(row: IRow, variable: string, mode: Mode): void;
  copy(row: IRow): void;
  /** Release a row, after a question if the settings want one. */
  release(row: IRow): void;
  /** Release rows after the time for an undo. */
  releaseRows(rows: readonly IReleasable[]): void;
  /** Apply a remedy if the view can, else copy its code. */
  apply(remedy: IRemedy): void;
  open(path: string): void;
}

export interface ISurroundings {
  trans: ITranslate;
  host: IHost;
  actions: IActions;
  /** Names whose release is pending: they look released. */
  releasing: ReadonlySet<string>;
  /** The notebook that code is inserted into; null if none is open. */
  target: string | null;
  wide: boolean;
}

const nothing = () => undefined;

export const Surroundings = React.createContext<ISurroundings>({
  trans: nullTranslator,
  host: { attachCode: () => '', copy: () => Promise.resolve() },
  actions: {
    insert: nothing,
    attach: nothing,
    copy: nothing,
    release: nothing,
    releaseRows: nothing,
    apply: nothing,
    open: nothing
  },
  releasing: new Set(),
  target: null,
  wide: false
});

export function useSurroundings(): ISurroundings {
  return React.useContext(Surroundings);
}
