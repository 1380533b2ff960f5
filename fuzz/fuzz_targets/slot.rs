#![no_main]
strongroom_fuzz::target!(slot);
