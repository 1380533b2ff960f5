#![no_main]
strongroom_fuzz::target!(audit_line);
