// Light, dark, or as the system has it.
import { useEffect, useState } from 'preact/hooks';

const dark = window.matchMedia('(prefers-color-scheme: dark)');
export type Theme = 'light' | 'dark';
const listeners = new Set<() => void>();

function current(): Theme {
  const chosen = localStorage.getItem('theme');
  return chosen === 'light' || chosen === 'dark' ? chosen : dark.matches ? 'dark' : 'light';
}

export function applyTheme() {
  document.documentElement.dataset.theme = current();
  for (const listener of listeners) listener();
}

export function toggleTheme() {
  localStorage.setItem('theme', current() === 'dark' ? 'light' : 'dark');
  applyTheme();
}

export function useTheme(): Theme {
  const [theme, setTheme] = useState(current());
  useEffect(() => {
    const listener = () => setTheme(current());
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return theme;
}

dark.addEventListener('change', applyTheme);
applyTheme();
