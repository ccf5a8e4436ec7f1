import preact from '@preact/preset-vite';
import { defineConfig } from 'vite';

// The pages are embedded in the binary from here (dashboard/src/pages.rs).
export default defineConfig({
  plugins: [preact()],
  build: { outDir: '../../target/dashboard/web', emptyOutDir: true, assetsInlineLimit: 0, reportCompressedSize: true, chunkSizeWarningLimit: 900 },
});
