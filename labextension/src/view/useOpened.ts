import * as React from 'react';
import type { IOpened } from './Details';
import { useLatest, whenAnswered } from './hooks';
import { asBackendError } from './listing';
import type { BackendError, IBackend, IRow } from './types';

const NOTHING: IOpened = { details: null, preview: null };

/**
 * Details and preview of the open row. The old ones stay while newer ones load.
 *
 * @param turn - Changes whenever the preview must be loaded again.
 */
export function useOpened(
  backend: IBackend,
  row: IRow | null,
  turn: string,
  onError: (error: BackendError) => void
): IOpened {
  const [opened, setOpened] = React.useState<IOpened>(NOTHING);
  const fail = useLatest((reason: unknown) => onError(asBackendError(reason)));
  const name = row?.name;
  const version = row?.version;
  const holds = row ? row.holders.length + row.older.length : 0;

  React.useEffect(() => setOpened(NOTHING), [backend, name]);

  React.useEffect(
    () =>
      name === undefined
        ? undefined
        : whenAnswered(
            backend.info(name),
            details => setOpened(old => ({ ...old, details })),
            fail
          ),
    [backend, name, version, holds, fail]
  );

  React.useEffect(
    () =>
      name === undefined || version === undefined
        ? undefined
        : whenAnswered(
            backend.preview(name, version),
            preview => setOpened(old => ({ ...old, preview })),
            reason => {
              const text = asBackendError(reason).message;
              setOpened(old => ({ ...old, preview: { type: 'none', text, stats: null } }));
            }
          ),
    [backend, name, version, turn]
  );

  return opened;
}
