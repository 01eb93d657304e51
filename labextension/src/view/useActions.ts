import * as React from 'react';
import { variableFor } from './code';
import type { IActions } from './context';
import { useLatest } from './hooks';
import { asBackendError } from './listing';
import type { IMessages } from './messages';
import type { PendingReleases } from './pending';
import { modeOf, remedyCode } from './remedyCode';
import { sizeText } from './text';
import {
  BackendError,
  type IBackend,
  type IHost,
  type IReleasable,
  type IRow,
  type ITranslate,
  type Mode
} from './types';

export interface IActionsOptions {
  backend: IBackend;
  host: IHost;
  trans: ITranslate;
  messages: IMessages;
  pending: PendingReleases;
  /** Ask whether to release a row; null to release it without a question. */
  ask: ((row: IRow) => void) | null;
  /** Read the list again. */
  refresh(): void;
}

function subjectOf(rows: readonly IReleasable[], trans: ITranslate): string {
  return rows.length === 1 ? rows[0].name : trans.__('%1 names', rows.length);
}

/** One line about rows that are released. */
export function releasedText(rows: readonly IReleasable[], trans: ITranslate): string {
  const size = sizeText(rows.reduce((sum, row) => sum + row.nbytes, 0));
  return trans.__('%1 released · %2', subjectOf(rows, trans), size);
}

/** One line about rows whose release was undone. */
export function undoneText(rows: readonly IReleasable[], trans: ITranslate): string {
  return trans.__('%1 not released', subjectOf(rows, trans));
}

/** One line about rows that have a newer version than the one that was to be released. */
export function newerText(rows: readonly IReleasable[], trans: ITranslate): string {
  return trans.__('%1 not released: there is a newer version', subjectOf(rows, trans));
}

/** The rows without a result of their release. */
export function unreleased<T extends IReleasable>(
  rows: readonly T[],
  released: readonly { name: string }[]
): T[] {
  const names = new Set(released.map(each => each.name));
  return rows.filter(row => !names.has(row.name));
}

/** What the user can do. Each action shows its result in a message. */
export function useActions(options: IActionsOptions): IActions {
  const latest = useLatest(() => options);
  // A view that is closed releases nothing.
  const [undos] = React.useState(() => new Set<() => void>());
  React.useEffect(() => () => undos.forEach(undo => undo()), [undos]);

  return React.useMemo(() => {
    const fail = (reason: unknown) => {
      const error = asBackendError(reason);
      latest().messages.fail(error);
      if (error.reason === 'missing') {
        latest().refresh();
      }
    };
    const attempt = (work: () => Promise<void> | void) => void (async () => work())().catch(fail);
    const copyText = (text: string) =>
      attempt(async () => {
        await latest().host.copy(text);
        latest().messages.say(latest().trans.__('Copied'));
      });
    const attachName = (name: string, variable: string, mode: Mode) =>
      attempt(async () => {
        const bound = await latest().host.attach?.(name, variable, mode);
        latest().refresh();
        latest().messages.say(bound ?? '');
      });
    const releaseRows = (all: readonly IReleasable[]) => {
      const { pending, messages, trans, refresh } = latest();
      const rows = all.filter(row => !pending.names.has(row.name));
      if (!rows.length) {
        return;
      }
      const undo = pending.add(rows, {
        started: () => {
          undos.delete(undo);
          latest().messages.dismiss(message);
        },
        done: released => {
          const rest = unreleased(rows, released);
          if (rest.length) {
            fail(new BackendError('refused', newerText(rest, trans)));
          }
          refresh();
        },
        failed: fail
      });
      undos.add(undo);
      const message = messages.say(releasedText(rows, trans), () => {
        undos.delete(undo);
        undo();
        latest().messages.say(undoneText(rows, trans));
      });
    };
    return {
      insert: row => attempt(() => latest().host.insert?.(row)),
      attach: (row, variable, mode) => attachName(row.name, variable, mode),
      copy: row => copyText(latest().host.attachCode(row)),
      release: row => (latest().ask ?? (each => releaseRows([each])))(row),
      releaseRows,
      open: path => attempt(() => latest().host.open?.(path)),
      apply: remedy => {
        const { action, names } = remedy;
        const { backend, host } = latest();
        if (action === 'release' && names.length) {
          attempt(async () =>
            releaseRows(await Promise.all(names.map(name => backend.info(name))))
          );
        } else if (action === 'attach' && host.attach && names.length === 1) {
          attachName(names[0], variableFor(names[0]), modeOf(remedy));
        } else {
          copyText(remedyCode(remedy));
        }
      }
    };
  }, [latest, undos]);
}
