/** The JupyterLab plugin: panel, status bar item, Running section, commands and settings. */
import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import type { Event } from '@jupyterlab/services';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import type { Widget } from '@lumino/widgets';
import { PendingReleases } from '../view';
import { addCommands, CommandIDs } from './commands';
import { labHost } from './host';
import { NotebookInserter } from './insert';
import { StoreModel } from './model';
import { reportError } from './notify';
import { SharedMemoryPanel } from './panel';
import { RestBackend } from './rest';
import { RunningSection } from './running';
import { Settings } from './settings';
import { StatusItem } from './statusbar';
import { ViewStateKeeper } from './viewstate';
import { whileVisible } from './visible';

const PLUGIN = 'jshm:plugin';
/** The schema of the events about changes of the store. */
const CHANGED = 'urn:jshm:changed:v1';

/** All tokens are optional: if one is missing (as in Notebook 7), its part is left out. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: 'Lists what notebooks share, who holds it and what it costs.',
  autoStart: true,
  optional: [
    ITranslator,
    ISettingRegistry,
    ILayoutRestorer,
    IStateDB,
    INotebookTracker,
    ICommandPalette,
    IRunningSessionManagers,
    IStatusBar
  ],
  activate
};

export default plugin;

function activate(
  app: JupyterFrontEnd,
  translator: ITranslator | null,
  registry: ISettingRegistry | null,
  restorer: ILayoutRestorer | null,
  database: IStateDB | null,
  tracker: INotebookTracker | null,
  palette: ICommandPalette | null,
  managers: IRunningSessionManagers | null,
  statusBar: IStatusBar | null
): void {
  const trans = (translator ?? nullTranslator).load('jshm');
  const settings = new Settings();
  const backend = new RestBackend(app.serviceManager.serverSettings, trans);
  const pending = new PendingReleases(backend);
  const model = new StoreModel(backend, settings.now.refreshSeconds);
  const inserter = tracker
    ? new NotebookInserter(tracker, id => app.shell.activateById(id), trans)
    : null;
  const panel = new SharedMemoryPanel({
    backend,
    host: labHost(app.commands, settings, inserter, trans),
    model,
    pending,
    settings,
    states: new ViewStateKeeper(database),
    trans
  });
  const open = (name: string | null) =>
    void app.commands.execute(CommandIDs.open, name === null ? {} : { name });

  app.shell.add(panel, 'left', { rank: 650, type: 'Shared Memory' });
  restorer?.add(panel, panel.id);
  addCommands({
    commands: app.commands,
    panel,
    activate: id => app.shell.activateById(id),
    model,
    settings,
    inserter,
    palette,
    trans
  });
  statusBar?.registerStatusItem(PLUGIN, {
    item: new StatusItem(model, () => open(null), trans),
    align: 'left',
    rank: 5,
    isActive: () => settings.now.showStatusBar,
    activeStateChanged: settings.changed
  });
  if (managers) {
    managers.add(new RunningSection(model, backend, pending, open, trans));
    void app.restored.then(() => watchRunning(app.shell, model));
  }

  followSettings(registry, settings, model);
  app.serviceManager.events.stream.connect((_: unknown, event: Event.Emission) => {
    if (event.schema_id === CHANGED) {
      model.nudge();
    }
  });
}

function followSettings(
  registry: ISettingRegistry | null,
  settings: Settings,
  model: StoreModel
): void {
  settings.changed.connect(() => {
    model.seconds = settings.now.refreshSeconds;
  });
  if (registry) {
    settings.follow(registry, PLUGIN).catch(reportError);
  }
}

/** Read the rows only while the Running panel is visible. Lab has no signal for that. */
function watchRunning(shell: Widget, model: StoreModel): void {
  const running = descendant(shell, ({ id }) => id.startsWith('jp-running-sessions'));
  if (running) {
    whileVisible(running, () => model.watch({ rows: true }));
  }
}

function descendant(widget: Widget, wanted: (widget: Widget) => boolean): Widget | undefined {
  for (const child of widget.children()) {
    const found = wanted(child) ? child : descendant(child, wanted);
    if (found) {
      return found;
    }
  }
  return undefined;
}
