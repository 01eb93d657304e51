/** What is shown where there are no rows. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Button, Icon } from './icons';
import type { BackendError, ITranslate } from './types';

const SLOW_MS = 300;

/** Nothing at first: what comes at once needs no word. */
export function Loading(): React.JSX.Element {
  const { trans } = useSurroundings();
  const [slow, setSlow] = React.useState(false);
  React.useEffect(() => {
    const timer = setTimeout(() => setSlow(true), SLOW_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div className="jshm-state" role="status">
      {slow && (
        <p className="jshm-weak">
          <span className="jshm-spinner" aria-hidden="true" /> {trans.__('Looking…')}
        </p>
      )}
    </div>
  );
}

export function Empty(): React.JSX.Element {
  const { trans } = useSurroundings();
  return (
    <div className="jshm-state">
      <p>
        <b>{trans.__('Nothing is shared yet.')}</b>
      </p>
      <p>{trans.__('Publish what other notebooks need:')}</p>
      <pre>{'%load_ext jshm\n%shm_publish X'}</pre>
    </div>
  );
}

export function NoMatch(props: { filter: string; onClear(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  return (
    <div className="jshm-state">
      <p>
        <bdi className="jshm-break">{trans.__('Nothing matches “%1”.', props.filter)}</bdi>
      </p>
      <Button className="jshm-button" onClick={props.onClear}>
        {trans.__('Clear the filter')}
      </Button>
    </div>
  );
}

function titleOf(error: BackendError, trans: ITranslate): string {
  const titles: Record<BackendError['reason'], string> = {
    missing: trans.__('It is gone'),
    unreachable: trans.__('No answer'),
    absent: trans.__('The server extension is not there'),
    forbidden: trans.__('Not logged in'),
    store: trans.__('The store cannot be used'),
    refused: trans.__('Refused')
  };
  return titles[error.reason];
}

/** Why there is no list, and what to do. */
export function Failed(props: { error: BackendError; onRetry(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { error } = props;
  return (
    <div className="jshm-state jshm-failed" role="alert">
      <Icon name="warning" />
      <p>
        <b>{titleOf(error, trans)}</b>
      </p>
      <p className="jshm-break">{error.message}</p>
      {error.remedy && <p className="jshm-break">{error.remedy}</p>}
      <Button className="jshm-button" onClick={props.onRetry}>
        {trans.__('Retry')}
      </Button>
    </div>
  );
}

/** The list is an old one, because a new one cannot be had. */
export function Outdated(props: { error: BackendError; onRetry(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { error } = props;
  return (
    <div className="jshm-notice jshm-error" role="alert">
      <Icon name="warning" />
      <span>
        {titleOf(error, trans)}: {error.message} {error.remedy}
      </span>
      <Button className="jshm-link" onClick={props.onRetry}>
        {trans.__('Retry')}
      </Button>
    </div>
  );
}

export function Waiting({ text }: { text?: string }): React.JSX.Element {
  return (
    <p className="jshm-waiting" role="status">
      <span className="jshm-spinner" aria-hidden="true" /> {text}
    </p>
  );
}
