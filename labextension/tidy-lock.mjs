// Takes what names a host out of package-lock.json: links where one may donate. npm does without.
import { readFile, writeFile } from 'node:fs/promises';

const path = new URL('package-lock.json', import.meta.url);
const lock = JSON.parse(await readFile(path, 'utf8'));
Object.values(lock.packages).forEach(entry => delete entry.funding);
await writeFile(path, `${JSON.stringify(lock, null, 2)}\n`);
