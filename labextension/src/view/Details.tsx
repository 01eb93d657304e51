/** The details below an opened row. */
import * as React from 'react';
import { Button } from './icons';
import { AttachAs } from './AttachAs';
import { useSurroundings } from './context';
import { PreviewPane } from './PreviewPane';
import { ageText, sizeText } from './text';
import type { IDetails, IRow, ITranslate, Preview } from './types';
import { ProcessName } from './ProcessName';
import { modeText, usesOf, type IUse } from './words';

function Use({ use }: { use: IUse }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { holder, version, count, old } = use;
  const suffix = [
    `v${version}`,
    count > 1 ? `×${count}` : '',
    old ? trans.__('(old, %1)', sizeText(old.nbytes)) : '',
    holder.mode === 'r' ? '' : modeText(holder.mode, trans)
  ];
  return (
    <li className={old ? 'jshm-use jshm-old' : 'jshm-use'}>
      <ProcessName process={holder} /> {suffix.filter(Boolean).join(' ')}
    </li>
  );
}

function Uses({ row, details }: { row: IRow; details: IDetails | null }): React.JSX.Element {
  const { trans } = useSurroundings();
  const uses = usesOf(row);
  if (!uses.length) {
    const copied = details?.kind === 'object' && !details.shared && !details.keeps;
    return (
      <p className="jshm-weak">
        {copied ? trans.__('Each attach copies it.') : trans.__('Nobody holds it now.')}
      </p>
    );
  }
  return (
    <ul className="jshm-uses" aria-label={trans.__('Used by')}>
      {uses.map((use, i) => (
        <Use key={i} use={use} />
      ))}
    </ul>
  );
}

/** How much of it is shared, and how much is copied. In tools that show RSS, an attach looks like a copy. */
function bytesOf(details: IDetails, trans: ITranslate): string {
  const shared = details.kind === 'array' ? details.nbytes : details.shared;
  const once = shared
    ? trans.__('%1 shared: one copy, which counts in the RSS of each holder', sizeText(shared))
    : '';
  const copied = details.copied
    ? trans.__('%1 copied by each attach', sizeText(details.copied))
    : '';
  return [once, copied].filter(Boolean).join(' · ');
}

/** Where it comes from, what it needs and what it costs. */
function Facts({ details }: { details: IDetails }): React.JSX.Element | null {
  const { trans } = useSurroundings();
  const modules = Object.entries(details.modules).map(([name, version]) => `${name} ${version}`);
  const references = Object.entries(details.references).map(
    ([name, nbytes]) => `${name} (${sizeText(nbytes)})`
  );
  const facts: [string, string][] = [
    [trans.__('Defined in'), details.place],
    [trans.__('Python'), details.kind === 'object' ? details.python : ''],
    [trans.__('Needs'), modules.join(', ')],
    [trans.__('Refers to'), references.join(', ')],
    [trans.__('Shares state with'), details.together.join(', ')],
    [trans.__('Bytes'), bytesOf(details, trans)],
    [trans.__('Columns copied'), details.columns.join(', ')],
    [trans.__('Keeps'), details.keeps ? sizeText(details.keeps) : '']
  ];
  const known = facts.filter(([, value]) => value);
  return known.length ? (
    <dl className="jshm-facts">
      {known.map(([what, value]) => (
        <React.Fragment key={what}>
          <dt>{what}</dt>
          <dd>
            <bdi>{value}</bdi>
          </dd>
        </React.Fragment>
      ))}
    </dl>
  ) : null;
}

function Buttons({ row }: { row: IRow }): React.JSX.Element {
  const { trans, host, actions, target, releasing } = useSurroundings();
  if (row.state === 'released' || releasing.has(row.name)) {
    return (
      <p className="jshm-weak">{trans.__('Its memory is freed when the last holder lets go')}</p>
    );
  }
  return (
    <div className="jshm-buttons">
      {host.attach && <AttachAs key={row.name} row={row} />}
      {host.insert && (
        <Button
          className="jshm-button jshm-accept"
          disabled={target === null}
          title={target === null ? trans.__('Open a notebook first') : undefined}
          onClick={() => actions.insert(row)}
        >
          {target === null ? (
            trans.__('Attach in a notebook')
          ) : (
            <bdi>{trans.__('Attach in %1', target)}</bdi>
          )}
        </Button>
      )}
      <Button className="jshm-button" onClick={() => actions.copy(row)}>
        {trans.__('Copy code')}
      </Button>
      <Button className="jshm-button jshm-warn" onClick={() => actions.release(row)}>
        {trans.__('Release…')}
      </Button>
    </div>
  );
}

export interface IOpened {
  details: IDetails | null;
  preview: Preview | null;
}

export function Details({ row, opened }: { row: IRow; opened: IOpened }): React.JSX.Element {
  const { trans } = useSurroundings();
  const { details } = opened;
  const lifetime = row.keep ? trans.__('kept after the session') : '';
  return (
    <div className="jshm-details">
      <div className="jshm-details-preview">
        <PreviewPane preview={opened.preview} />
      </div>
      <div className="jshm-details-text">
        {details?.doc && <p className="jshm-doc">{details.doc}</p>}
        {row.note && (
          <p className="jshm-note">
            <bdi>{row.note}</bdi>
          </p>
        )}
        <p className="jshm-weak">
          {[row.summary, `v${row.version}`, ageText(row.created, trans), lifetime]
            .filter(Boolean)
            .join(' · ')}
        </p>
        <p>
          {trans.__('From:')} <ProcessName process={row.publisher} />{' '}
          {!row.publisher.alive && <span className="jshm-weak">{trans.__('(stopped)')}</span>}
        </p>
        {details && <Facts details={details} />}
        <Uses row={row} details={details} />
        <Buttons row={row} />
      </div>
    </div>
  );
}
