/** What is shown instead of rows. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Button, Icon } from './icons';
import { Remedies } from './Remedies';
import type { BackendError } from './types';

/** The style sheet shows it only after a moment: a list that comes at once needs no text. */
export function Loading(): React.JSX.Element {
  const { trans } = useSurroundings();
  return (
    <div className="jshm-state" role="status">
      <p className="jshm-weak jshm-loading">
        <span className="jshm-spinner" aria-hidden="true" /> {trans.__('Loading…')}
      </p>
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
      <p>{trans.__('Publish a variable that other notebooks need:')}</p>
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

/** Why there is no list, and what the user can do. */
export function Failed(props: { error: BackendError; onRetry(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { error } = props;
  return (
    <div className="jshm-state jshm-failed" role="alert">
      <Icon name="warning" />
      <p className="jshm-break">
        <b>{error.message}</b>
      </p>
      <p className="jshm-break">
        <Remedies error={error} />
      </p>
      <Button className="jshm-button" onClick={props.onRetry}>
        {trans.__('Retry')}
      </Button>
    </div>
  );
}

/** The list is out of date, because a new one cannot be read. */
export function Outdated(props: { error: BackendError; onRetry(): void }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { error } = props;
  return (
    <div className="jshm-notice jshm-error" role="alert">
      <Icon name="warning" />
      <span>
        {error.message} <Remedies error={error} />
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
