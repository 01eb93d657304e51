import { Clipboard } from '@jupyterlab/apputils';
import type { CommandRegistry } from '@lumino/commands';
import type { IHost, ITranslate } from '../view';
import { codeFor } from './code';
import { dragCode } from './drag';
import type { NotebookInserter } from './insert';
import { reportError } from './notify';
import type { Settings } from './settings';

/** The abilities of Lab as a host of the view. Without an inserter there are no notebooks to insert into. */
export function labHost(
  commands: CommandRegistry,
  settings: Settings,
  inserter: NotebookInserter | null,
  trans: ITranslate
): IHost {
  const host: IHost = {
    open: path => void commands.execute('docmanager:open', { path }).catch(reportError),
    attachCode: row => codeFor(row.name, settings),
    copy: text => {
      Clipboard.copyToSystem(text);
      return Promise.resolve();
    },
    waiting: trans.__('Waiting for the server …')
  };
  if (!inserter) {
    return host;
  }
  return {
    ...host,
    insert: row => inserter.insert(codeFor(row.name, settings)),
    target: () => inserter.target,
    onTarget: changed => {
      const slot = () => changed();
      inserter.changed.connect(slot);
      return () => void inserter.changed.disconnect(slot);
    },
    drag: (row, event) => dragCode(codeFor(row.name, settings), event)
  };
}
