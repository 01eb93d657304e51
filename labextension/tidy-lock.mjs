// Removes donation links from package-lock.json, so that it names no hosts. npm does not need them.
import { readFile, writeFile } from 'node:fs/promises';

const path = new URL('package-lock.json', import.meta.url);
const lock = JSON.parse(await readFile(path, 'utf8'));
Object.values(lock.packages).forEach(entry => delete entry.funding);
await writeFile(path, `${JSON.stringify(lock, null, 2)}\n`);
