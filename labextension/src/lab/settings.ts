import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Signal, type ISignal } from '@lumino/signaling';

/** The settings of the plugin. */
export interface ISettings {
  /** Seconds between two reads of the store. */
  refreshSeconds: number;
  attachMode: 'r' | 'c';
  attachCode: 'python' | 'magic';
  confirmRelease: boolean;
  showStatusBar: boolean;
}

/** As in `schema/plugin.json`. */
export const defaultSettings: ISettings = {
  refreshSeconds: 30,
  attachMode: 'r',
  attachCode: 'python',
  confirmRelease: true,
  showStatusBar: true
};

const LEAST_SECONDS = 5;
/** For this time after a request the server emits events about changes. */
const MOST_SECONDS = 60;

/** The settings in a settings file; a wrong value counts as missing. */
export function parseSettings(raw: Readonly<Record<string, unknown>>): ISettings {
  const { refreshSeconds, attachMode, attachCode, confirmRelease, showStatusBar } = raw;
  const flag = (value: unknown, otherwise: boolean) =>
    typeof value === 'boolean' ? value : otherwise;
  return {
    refreshSeconds:
      typeof refreshSeconds === 'number' && Number.isFinite(refreshSeconds)
        ? Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, refreshSeconds))
        : defaultSettings.refreshSeconds,
    attachMode: attachMode === 'c' ? 'c' : 'r',
    attachCode: attachCode === 'magic' ? 'magic' : 'python',
    confirmRelease: flag(confirmRelease, defaultSettings.confirmRelease),
    showStatusBar: flag(showStatusBar, defaultSettings.showStatusBar)
  };
}

/** The current settings; the defaults until they are loaded. */
export class Settings {
  get now(): ISettings {
    return this._now;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Load the settings of a plugin, and follow their changes. */
  async follow(registry: ISettingRegistry, plugin: string): Promise<void> {
    const loaded = await registry.load(plugin);
    const read = () => {
      this._now = parseSettings(loaded.composite);
      this._changed.emit();
    };
    loaded.changed.connect(read);
    read();
  }

  private _now = defaultSettings;
  private readonly _changed = new Signal<this, void>(this);
}
