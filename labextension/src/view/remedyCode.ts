/** Remedies in the words of the view: the label of a button, or code for a cell. */
import { shellWord } from './code';
import type { IHost, IRemedy, ITranslate, Mode } from './types';

/** The magic of a remedy; `check` and `gc` are shell commands. */
export function remedyCode({ action, names, options }: IRemedy): string {
  const command = action === 'check' || action === 'gc' ? `!jshm ${action}` : `%shm_${action}`;
  const words = Object.entries(options)
    .filter(([, value]) => value)
    .map(([key, value]) => (value === true ? `--${key}` : `--${key} ${shellWord(String(value))}`));
  return [command, ...names.map(shellWord), ...words].join(' ');
}

/** The label of the button for a remedy that the view can apply; '' for one whose code is copied. */
export function remedyLabel({ action, names }: IRemedy, host: IHost, trans: ITranslate): string {
  const words = names.join(', ');
  return !words
    ? ''
    : action === 'release'
      ? trans.__('Release %1', words)
      : action === 'attach' && host.attach && names.length === 1
        ? trans.__('Attach %1', words)
        : '';
}

/** The mode of a remedy that attaches. */
export function modeOf({ options }: IRemedy): Mode {
  return options.mode === 'c' || options.mode === 'r+' ? options.mode : 'r';
}
