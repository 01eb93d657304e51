import * as React from 'react';
import type { IOpened } from './Details';
import { useLatest } from './hooks';
import { asBackendError } from './listing';
import type { BackendError, IBackend, IRow } from './types';

const NOTHING: IOpened = { details: null, preview: null };

/** Details and preview of the row that is open; they stay while newer ones are on their way. */
export function useOpened(
  backend: IBackend,
  row: IRow | null,
  onError: (error: BackendError) => void
): IOpened {
  const [opened, setOpened] = React.useState<IOpened>(NOTHING);
  const fail = useLatest((reason: unknown) => onError(asBackendError(reason)));
  const name = row?.name;
  const version = row?.version;
  const holds = row ? row.holders.length + row.older.length : 0;

  React.useEffect(() => setOpened(NOTHING), [backend, name]);

  React.useEffect(() => {
    if (name === undefined) {
      return;
    }
    let gone = false;
    backend.info(name).then(
      details => !gone && setOpened(old => ({ ...old, details })),
      (reason: unknown) => !gone && fail(reason)
    );
    return () => {
      gone = true;
    };
  }, [backend, name, version, holds, fail]);

  React.useEffect(() => {
    if (name === undefined || version === undefined) {
      return;
    }
    let gone = false;
    backend.preview(name, version).then(
      preview => !gone && setOpened(old => ({ ...old, preview })),
      (reason: unknown) => {
        if (!gone) {
          const text = asBackendError(reason).message;
          setOpened(old => ({ ...old, preview: { type: 'none', text, stats: null } }));
        }
      }
    );
    return () => {
      gone = true;
    };
  }, [backend, name, version]);

  return opened;
}
