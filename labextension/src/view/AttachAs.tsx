import * as React from 'react';
import { isVariable, variableFor } from './code';
import { useSurroundings } from './context';
import type { IRow, Mode } from './types';
import { modeText } from './words';

/** The modes in which a row can be attached. */
export function modesOf(row: IRow): Mode[] {
  return row.writable ? ['r', 'c', 'r+'] : ['r', 'c'];
}

/** A form to attach a row to a variable of this kernel. */
export function AttachAs({ row }: { row: IRow }): React.JSX.Element {
  const { trans, actions } = useSurroundings();
  const [variable, setVariable] = React.useState(() => variableFor(row.name));
  const [mode, setMode] = React.useState<Mode>('r');
  const valid = isVariable(variable.normalize('NFKC'));
  return (
    <form
      className="jshm-attach-as"
      onSubmit={event => {
        event.preventDefault();
        if (valid) {
          actions.attach(row, variable, mode);
        }
      }}
    >
      <button type="submit" className="jshm-button jshm-accept" disabled={!valid}>
        {trans.__('Attach as')}
      </button>
      <input
        className="jshm-input"
        value={variable}
        size={Math.max(4, Math.min(16, variable.length))}
        spellCheck={false}
        aria-label={trans.__('Variable')}
        aria-invalid={!valid}
        title={valid ? undefined : trans.__('This cannot be the name of a variable')}
        onChange={event => setVariable(event.currentTarget.value)}
      />
      <select
        className="jshm-select"
        value={mode}
        aria-label={trans.__('Mode')}
        onChange={event => setMode(event.currentTarget.value as Mode)}
      >
        {modesOf(row).map(each => (
          <option key={each} value={each}>
            {modeText(each, trans)}
          </option>
        ))}
      </select>
    </form>
  );
}
