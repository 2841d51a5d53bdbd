"""The page of a study's latents: one self-contained HTML file to look at them one by one."""
