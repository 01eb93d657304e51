/** Copy text; also where a page was not served securely, so that browsers have no clipboard for it. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not allowed in a frame: the old way may be.
    }
  }
  const area = document.createElement('textarea');
  area.value = text;
  area.style.position = 'fixed';
  area.style.opacity = '0';
  document.body.append(area);
  area.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- There is no other way there.
  const done = document.execCommand('copy');
  area.remove();
  if (!done) {
    throw new Error('The browser does not allow copying');
  }
}
