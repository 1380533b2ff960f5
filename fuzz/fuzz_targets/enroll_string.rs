#![no_main]
strongroom_fuzz::target!(enroll_string);
