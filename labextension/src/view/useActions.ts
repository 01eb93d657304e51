import * as React from 'react';
import type { IActions } from './context';
import { useLatest } from './hooks';
import { asBackendError } from './listing';
import type { IMessages } from './messages';
import { sizeText } from './text';
import type { IBackend, IHost, IReleased, IRow, ITranslate, Mode } from './types';

export interface IActionsOptions {
  backend: IBackend;
  host: IHost;
  trans: ITranslate;
  messages: IMessages;
  /** Ask whether a row is to be released; null to release it at once. */
  ask: ((row: IRow) => void) | null;
  /** The list has changed. */
  refresh(): void;
}

/** What was released, in a line. */
export function releasedText(released: readonly IReleased[], trans: ITranslate): string {
  const size = sizeText(released.reduce((sum, each) => sum + each.nbytes, 0));
  return released.length === 1
    ? trans.__('%1 released · %2', released[0].name, size)
    : trans.__('%1 names released · %2', released.length, size);
}

/** What can be done with rows; each says how it went. */
export function useActions(
  options: IActionsOptions
): IActions & { releaseNames(names: string[]): void } {
  const { backend, host, trans, messages, ask, refresh } = options;

  const attempt = useLatest(async (work: () => Promise<void> | void) => {
    try {
      await work();
    } catch (reason) {
      const error = asBackendError(reason);
      messages.fail(error);
      if (error.reason === 'missing') {
        refresh();
      }
    }
  });

  const restore = useLatest((names: string[]) =>
    attempt(async () => {
      const back = await backend.restore(names);
      refresh();
      messages.say(
        back.length === 1
          ? trans.__('%1 is back', back[0])
          : trans._n('%1 name is back', '%1 names are back', back.length)
      );
    })
  );

  const releaseNames = useLatest((names: string[]) => {
    void attempt(async () => {
      const released = await backend.release(names);
      refresh();
      if (released.length) {
        const undoable = released.filter(each => each.undoable).map(each => each.name);
        const undo = undoable.length ? () => void restore(undoable) : undefined;
        messages.say(releasedText(released, trans), undo);
      }
    });
  });

  const insert = useLatest((row: IRow) => void attempt(() => host.insert?.(row)));
  const copy = useLatest((row: IRow) => {
    void attempt(async () => {
      await host.copy(host.attachCode(row));
      messages.say(trans.__('Code that attaches %1 is copied', row.name));
    });
  });
  const attach = useLatest((row: IRow, variable: string, mode: Mode) => {
    void attempt(async () => {
      const bound = await host.attach?.(row.name, variable, mode);
      refresh();
      messages.say(bound ?? '');
    });
  });
  const release = useLatest((row: IRow) => (ask ? ask(row) : releaseNames([row.name])));
  const open = useLatest((path: string) => void attempt(() => host.open?.(path)));

  return React.useMemo(
    () => ({ insert, copy, attach, release, open, releaseNames }),
    [insert, copy, attach, release, open, releaseNames]
  );
}
