// Somebody at JupyterLab in a browser: runs a cell in a window, reloads the window, runs another; types into a terminal in
// a second window. Whatever the box answers comes over WebSockets. Called with a JSON object; prints another.
// With BOXGATE_SCREENSHOTS=DIRECTORY it leaves there what each window shows in the end.
'use strict';

const path = require('node:path');
const { chromium } = require('playwright-core');

const LIMIT = 30_000;
const { url, chromium: executablePath, first, second, typed, answer } = JSON.parse(process.argv[2]);
const screenshots = process.env.BOXGATE_SCREENSHOTS;

const launch = (page, card) => page.locator('.jp-Launcher .jp-LauncherCard', { hasText: card }).first().click();

// Runs the last cell; what it prints. The status bar says when the kernel listens: before that nothing is run.
async function runCell(page, code, number) {
  await page.locator('#jp-bottom-panel, #jp-main-statusbar').getByText('| Idle').waitFor();
  const cells = page.locator('.jp-Notebook .jp-CodeCell');
  await cells.last().locator('.cm-content').click();
  await page.keyboard.type(code);
  await page.keyboard.press('Shift+Enter');
  return (await cells.nth(number).locator('.jp-OutputArea-output').first().innerText()).trim();
}

async function useNotebook(page) {
  await page.goto(url);
  await launch(page, 'Python 3');
  const before = await runCell(page, first, 0);
  await page.keyboard.press('Control+S');
  await page.locator('.jp-Dialog .jp-mod-accept').click();
  await page.locator('.lm-TabBar-tab.jp-mod-dirty').waitFor({ state: 'detached' });
  await page.reload();
  return { first: before, second: await runCell(page, second, 1) };
}

// The terminal's WebSocket must bring `answer`.
async function useTerminal(page) {
  const answered = page.waitForEvent('websocket', (socket) => socket.url().includes('/terminals/'))
    .then((socket) => socket.waitForEvent('framereceived', ({ payload }) => payload.includes(answer)));
  const type = async () => {
    await page.goto(new URL('/lab/workspaces/second', url).href);
    await launch(page, 'Terminal');
    await page.locator('.jp-Terminal .xterm-helper-textarea').focus();
    await page.keyboard.type(`${typed}\n`);
  };
  await Promise.all([answered, type()]);
}

async function main() {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.setDefaultTimeout(LIMIT);
  let sockets = 0;
  context.on('page', (page) => page.on('websocket', () => { sockets += 1; }));
  try {
    const said = await useNotebook(await context.newPage());
    await useTerminal(await context.newPage());
    console.log(JSON.stringify({ ...said, sockets }));
  } finally {
    for (const [number, page] of context.pages().entries()) {
      if (screenshots) await page.screenshot({ path: path.join(screenshots, `window-${number + 1}.png`) });
    }
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
