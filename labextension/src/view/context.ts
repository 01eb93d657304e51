import * as React from 'react';
import { nullTranslator } from './translate';
import type { IHost, IRow, ITranslate, Mode } from './types';

/** What users can do with rows. */
export interface IActions {
  insert(row: IRow): void;
  attach(row: IRow, variable: string, mode: Mode): void;
  copy(row: IRow): void;
  /** Release, after a question where that is wanted. */
  release(row: IRow): void;
  open(path: string): void;
}

export interface ISurroundings {
  trans: ITranslate;
  host: IHost;
  actions: IActions;
  /** The notebook that code is inserted into; null if there is none. */
  target: string | null;
  wide: boolean;
}

const nothing = () => undefined;

export const Surroundings = React.createContext<ISurroundings>({
  trans: nullTranslator,
  host: { attachCode: () => '', copy: () => Promise.resolve() },
  actions: { insert: nothing, attach: nothing, copy: nothing, release: nothing, open: nothing },
  target: null,
  wide: false
});

export function useSurroundings(): ISurroundings {
  return React.useContext(Surroundings);
}
