#![no_main]
strongroom_fuzz::target!(http_request);
