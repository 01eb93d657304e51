import { attachCode } from '../view';
import type { Settings } from './settings';

/** The code that attaches a name, as the settings say. */
export function codeFor(name: string, settings: Settings): string {
  const { attachCode: form, attachMode } = settings.now;
  return attachCode(name, form === 'magic', attachMode);
}
