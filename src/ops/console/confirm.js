/** Asks for confirmation of actions that can't be undone or that publish something. */

const dialog = document.querySelector('#confirm');

/**
 * @param {{ title: string, text: string, action: string, danger?: boolean }} question
 * @returns {Promise<boolean>} also false on Escape
 */
export function confirmed({ title, text, action, danger = false }) {
  dialog.querySelector('h2').textContent = title;
  dialog.querySelector('#confirm-text').textContent = text;
  const yes = dialog.querySelector('#confirm-yes');
  yes.textContent = action;
  yes.className = danger ? 'danger' : 'primary';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
