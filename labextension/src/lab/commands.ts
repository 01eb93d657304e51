import type { ICommandPalette } from '@jupyterlab/apputils';
import type { CommandRegistry } from '@lumino/commands';
import type { ITranslate } from '../view';
import { codeFor } from './code';
import type { NotebookInserter } from './insert';
import type { StoreModel } from './model';
import { reportError } from './notify';
import type { SharedMemoryPanel } from './panel';
import type { Settings } from './settings';

export const CommandIDs = {
  open: 'jshm:open',
  refresh: 'jshm:refresh',
  review: 'jshm:review',
  insert: 'jshm:insert'
} as const;

export interface ICommandOptions {
  commands: CommandRegistry;
  panel: SharedMemoryPanel;
  activate: (id: string) => void;
  model: StoreModel;
  settings: Settings;
  inserter: NotebookInserter | null;
  palette: ICommandPalette | null;
  trans: ITranslate;
}

const NO_ARGUMENTS = { args: { type: 'object', properties: {} } };

/** Add the commands, also to the command palette. */
export function addCommands(options: ICommandOptions): void {
  addPanelCommands(options);
  if (options.inserter) {
    addInsertCommand(options, options.inserter);
  }
  const category = options.trans.__('Shared Memory (jshm)');
  Object.values(CommandIDs)
    .filter(id => options.commands.hasCommand(id))
    .forEach(command => options.palette?.addItem({ command, category }));
}

function addPanelCommands({ commands, panel, activate, model, trans }: ICommandOptions): void {
  commands.addCommand(CommandIDs.open, {
    label: trans.__('Show Shared Memory'),
    caption: trans.__('Show what notebooks share, who holds it and what it costs'),
    describedBy: {
      args: {
        type: 'object',
        properties: {
          name: { type: 'string', description: trans.__('The name to show; by default none') }
        }
      }
    },
    execute: ({ name }) => {
      activate(panel.id);
      panel.focus();
      if (typeof name === 'string') {
        panel.selected = name;
      }
    }
  });
  commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Shared Memory'),
    caption: trans.__('Read the list of shared names again'),
    describedBy: NO_ARGUMENTS,
    execute: () => model.refresh()
  });
  commands.addCommand(CommandIDs.review, {
    label: trans.__('Release Names Not in Use…'),
    caption: trans.__('Choose which of the names that nobody holds to release'),
    describedBy: NO_ARGUMENTS,
    execute: () => {
      activate(panel.id);
      panel.review();
    }
  });
}

function addInsertCommand(
  { commands, panel, settings, trans }: ICommandOptions,
  inserter: NotebookInserter
): void {
  const chosen = (name: unknown) => (typeof name === 'string' ? name : panel.selected);
  commands.addCommand(CommandIDs.insert, {
    label: ({ name }) =>
      chosen(name) === null
        ? trans.__('Insert Code That Attaches the Selected Name')
        : trans.__('Insert Code That Attaches %1', chosen(name)),
    caption: trans.__('Insert the code into the current notebook without running it'),
    describedBy: {
      args: {
        type: 'object',
        properties: {
          name: {
            type: 'string',
            description: trans.__('The name to attach; by default the one whose row is open')
          }
        }
      }
    },
    isEnabled: ({ name }) => chosen(name) !== null && inserter.target !== null,
    execute: async ({ name }) => {
      const wanted = chosen(name);
      if (wanted !== null) {
        await inserter.insert(codeFor(wanted, settings)).catch(reportError);
      }
    }
  });
}
