import { defineConfig } from '@playwright/test';

// Debian's Chromium; nothing is asked of anybody but the server of these pages.
const args = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export default defineConfig({
  testDir: 'tests',
  outputDir: process.env.PLAYWRIGHT_OUT ?? '../../target/test/dashboard/playwright',
  workers: 1,
  timeout: 60_000,
  reporter: 'list',
  use: {
    baseURL: process.env.DASHBOARD_URL,
    timezoneId: 'Europe/Berlin',
    locale: 'en-US',
    viewport: { width: 1280, height: 900 },
    trace: 'retain-on-failure',
    launchOptions: { executablePath: '/usr/bin/chromium', args: process.getuid?.() === 0 ? ['--no-sandbox', ...args] : args },
  },
});
